//! Faults: what is wrong, and where. All of them at once, never only the first.

use std::fmt;

/// One thing that is wrong with what a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The path to it, `spec.allow[0].methods[1]`; empty where the whole is meant.
    pub place: String,
    /// What is wrong with it and what would be right, without a full stop.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.trim_end_matches(':') {
            "" => f.write_str(&self.message),
            place => write!(f, "{place}: {}", self.message),
        }
    }
}

/// Everything that is wrong. Never empty when it is an `Err`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Faults(pub Vec<Fault>);

impl Faults {
    /// A single fault.
    #[must_use]
    pub fn one(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![Fault {
            place: place.into(),
            message: message.into(),
        }])
    }

    /// Puts `outer` in front of every place: `outer.place`, or `outer: ` when it ends in a colon.
    #[must_use]
    pub fn under(mut self, outer: &str) -> Self {
        for fault in &mut self.0 {
            fault.place = join(outer, &fault.place);
        }
        self
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Gathers faults while a value is read, so that every one is reported.
#[derive(Debug, Default)]
pub struct Check {
    faults: Vec<Fault>,
}

impl Check {
    /// Notes a fault.
    pub fn fault(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault {
            place: place.into(),
            message: message.into(),
        });
    }

    /// Takes the value, or the faults, of a part.
    pub fn part<T>(&mut self, place: &str, result: Result<T, Faults>) -> Option<T> {
        result
            .map_err(|faults| self.faults.extend(faults.under(place).0))
            .ok()
    }

    /// Takes the value, or the message as a fault, of a leaf.
    pub fn leaf<T, E: fmt::Display>(&mut self, place: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.fault(place, error.to_string())).ok()
    }

    /// The value if nothing was wrong. `None` without a fault is a defect of the caller and is reported as one.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Faults> {
        match value {
            Some(value) if self.faults.is_empty() => Ok(value),
            _ => {
                if self.faults.is_empty() {
                    self.fault("", "is incomplete");
                }
                Err(Faults(self.faults))
            }
        }
    }
}

fn join(outer: &str, inner: &str) -> String {
    match (outer.is_empty(), inner.is_empty()) {
        (true, _) => inner.to_owned(),
        (_, true) => outer.to_owned(),
        _ if outer.ends_with(':') => format!("{outer} {inner}"),
        _ if inner.starts_with('[') => format!("{outer}{inner}"),
        _ => format!("{outer}.{inner}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_joined_as_a_person_would_write_them() {
        let faults = Faults::one("methods[1]", "is blank")
            .under("[0]")
            .under("spec.allow")
            .under("AccessPolicy/a:");
        assert_eq!(
            faults.to_string(),
            "AccessPolicy/a: spec.allow[0].methods[1]: is blank"
        );
    }

    #[test]
    fn a_check_reports_every_fault_and_never_an_empty_list() {
        let mut check = Check::default();
        check.fault("a", "one");
        check.fault("b", "two");
        assert_eq!(check.finish(Some(())).unwrap_err().0.len(), 2);
        assert_eq!(Check::default().finish::<()>(None).unwrap_err().0.len(), 1);
    }
}
