//! A wire that can be cut without a sound: what stands behind it seems neither there nor gone.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::folder::free_port;

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Carries bytes from a port of its own to a server, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    cut: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
}

impl Proxy {
    /// In front of `target`.
    ///
    /// # Panics
    /// There is no port for it.
    #[must_use]
    pub fn to(target: String) -> Self {
        let port = free_port();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let proxy = Self {
            port,
            cut: Arc::default(),
            over: Arc::default(),
        };
        let (cut, over) = (Arc::clone(&proxy.cut), Arc::clone(&proxy.over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                // While the wire is cut, connections wait in the queue like their bytes.
                if cut.load(Ordering::Relaxed) {
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
                match listener.accept() {
                    Ok((near, _)) => {
                        if let Ok(far) = TcpStream::connect(&target) {
                            carry(&near, &far, &cut, &over);
                        }
                    }
                    Err(_) => std::thread::sleep(LOOK_AGAIN),
                }
            }
        });
        proxy
    }

    /// `127.0.0.1:PORT`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on nothing passes, and nobody is told.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Everything passes again; what was on its way goes on.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn carry(near: &TcpStream, far: &TcpStream, cut: &Arc<AtomicBool>, over: &Arc<AtomicBool>) {
    for (from, to) in [(near, far), (far, near)] {
        let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let (cut, over) = (Arc::clone(cut), Arc::clone(over));
        from.set_nonblocking(false).unwrap();
        from.set_read_timeout(Some(LOOK_AGAIN)).unwrap();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 16 << 10];
            while !over.load(Ordering::Relaxed) {
                if cut.load(Ordering::Relaxed) {
                    std::thread::sleep(LOOK_AGAIN);
                    continue;
                }
                match from.read(&mut bytes) {
                    Ok(0) => break,
                    Ok(read) if to.write_all(&bytes[..read]).is_ok() => {}
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    _ => break,
                }
            }
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        });
    }
}
