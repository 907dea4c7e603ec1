//! Where a store is, as the environment tells it.

use std::path::{Path, PathBuf};

use contract::launch::Variables;
use contract::{LaunchError, vars};

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// In a folder.
    Directory(PathBuf),
}

impl Address {
    /// Reads `THE0_STORE`.
    pub fn parse(variables: &Variables) -> Result<Self, LaunchError> {
        let given = variables.get(vars::THE0_STORE).map(String::as_str);
        let refuse = |why: &str| LaunchError::Value {
            variable: vars::THE0_STORE,
            why: why.to_owned(),
        };
        match given.filter(|path| !path.is_empty()) {
            None => Err(refuse(
                "is not set: this version has the directory store; set it to the absolute path of a folder",
            )),
            Some(path) if Path::new(path).is_absolute() => Ok(Self::Directory(path.into())),
            Some(_) => Err(refuse("is not an absolute path: give one")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_store_the_refusal_says_what_to_set() {
        let parse = |variables: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Address::parse(&variables.iter().map(own).collect())
        };
        let text = parse(&[]).unwrap_err().to_string();
        assert!(
            text.contains("THE0_STORE") && text.contains("directory store"),
            "{text}"
        );
        assert!(parse(&[("THE0_STORE", "data")]).is_err());
    }
}
