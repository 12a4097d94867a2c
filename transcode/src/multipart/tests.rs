//! Forms as browsers and curl send them, cut anywhere; what is none is refused.

use super::*;

const FORM: &str = "--XX\r\n\
    Content-Disposition: form-data; name=\"title\"\r\n\r\n\
    a \r\n--X text\r\n\
    --XX\r\n\
    content-disposition: form-data; name=file; filename=\"a \\\"b\\\".png\"\r\n\
    Content-Type: image/png\r\n\r\n\
    \r\n\r\nbytes\r\n\r\n\
    --XX  \r\n\
    Content-Disposition: form-data; name=\"empty\"\r\n\r\n\
    \r\n\
    --XX--\r\nwhat follows is nobody's";

/// Every part with all its data.
fn read(form: &[u8], size: usize) -> Result<Vec<(Part, Vec<u8>)>, Refusal> {
    let mut multipart = Multipart::new("XX");
    let mut parts: Vec<(Part, Vec<u8>)> = Vec::new();
    let mut open = false;
    for piece in form.chunks(size) {
        multipart.push(piece);
        while let Some(event) = multipart.next()? {
            match event {
                Event::Part(part) => {
                    assert!(!std::mem::replace(&mut open, true));
                    parts.push((part, Vec::new()));
                }
                Event::Data(data) => {
                    assert!(open && !data.is_empty());
                    parts.last_mut().unwrap().1.extend_from_slice(&data);
                }
                Event::End => assert!(std::mem::replace(&mut open, false)),
            }
        }
    }
    multipart.finish()?;
    Ok(parts)
}

fn part(name: &str, file_name: Option<&str>, content_type: Option<&str>) -> Part {
    Part {
        name: name.into(),
        file_name: file_name.map(str::to_owned),
        content_type: content_type.map(str::to_owned),
    }
}

#[test]
fn any_way_of_cutting_a_form_gives_the_same_parts() {
    for size in 1..=FORM.len() {
        let parts = read(FORM.as_bytes(), size).unwrap();
        assert_eq!(
            parts,
            [
                (part("title", None, None), b"a \r\n--X text".to_vec()),
                (
                    part("file", Some("a \"b\".png"), Some("image/png")),
                    b"\r\n\r\nbytes\r\n".to_vec()
                ),
                (part("empty", None, None), Vec::new()),
            ],
            "pieces of {size}"
        );
    }
}

#[test]
fn data_is_handed_out_before_its_part_is_complete_and_little_is_held_back() {
    let mut multipart = Multipart::new("XX");
    multipart.push(b"--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n");
    assert!(matches!(multipart.next(), Ok(Some(Event::Part(_)))));
    for _ in 0..100 {
        multipart.push(&[b'\r'; 1000]);
        let Ok(Some(Event::Data(data))) = multipart.next() else {
            panic!("nothing came")
        };
        assert!(data.len() >= 999);
        assert!(multipart.buffer.len() <= 8);
    }
}

#[test]
fn what_is_no_form_is_refused() {
    let head = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n";
    for bad in [
        String::new(),
        "--XX".into(),
        "--YY\r\n".into(),
        "x".repeat(9000),
        format!("{head}\r\nno end"),
        format!("{head}\r\nno end\r\n--XX\r\n"),
        format!("--XX junk\r\n{}", &head[6..]),
        "--XX\r\n\r\ndata\r\n--XX--".into(),
        "--XX\r\nContent-Disposition: attachment; name=\"a\"\r\n\r\ndata\r\n--XX--".into(),
        "--XX\r\nContent-Disposition: form-data; name=\"a\r\n\r\ndata\r\n--XX--".into(),
        "--XX\r\nno header\r\n\r\ndata\r\n--XX--".into(),
        format!("{head}{}\r\ndata\r\n--XX--", &head[6..]),
        format!("{head}Content-Transfer-Encoding: base64\r\n\r\nZGF0YQ==\r\n--XX--"),
        format!("{head}X: {}\r\n\r\ndata\r\n--XX--", "y".repeat(9000)),
    ] {
        for size in [1, 7, usize::MAX] {
            let refused = read(bad.as_bytes(), size.min(bad.len().max(1))).unwrap_err();
            assert_eq!(refused.http, 400, "{bad:?}");
        }
    }
    let many = format!("{head}\r\n\r\n").repeat(PARTS_MAX + 1) + "--XX--";
    assert_eq!(read(many.as_bytes(), 1 << 16).unwrap_err().http, 413);
}

#[test]
fn the_boundary_is_read_from_the_content_type() {
    let told = |text: &str| boundary(text).map_err(|refused| refused.http);
    assert_eq!(told("multipart/form-data; boundary=XX"), Ok(Some("XX".into())));
    assert_eq!(
        told("Multipart/Form-Data; charset=utf-8; Boundary=\"a b:c\""),
        Ok(Some("a b:c".into()))
    );
    assert_eq!(told("multipart/mixed; boundary=XX"), Ok(None));
    assert_eq!(told("application/json"), Ok(None));
    for bad in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=a<b",
    ] {
        assert_eq!(told(bad), Err(415), "{bad}");
    }
    assert_eq!(
        told(&format!("multipart/form-data; boundary={}", "x".repeat(71))),
        Err(415)
    );
}
