//! Names of variables from older generations of the platform, accepted and told.

use super::Variables;

/// The older name and the one that counts.
const OLDER: [(&str, &str); 6] = [
    ("MINIO_ACCESS_KEY_ID", "MINIO_ACCESS_KEY"),
    ("MINIO_SECRET_ACCESS_KEY", "MINIO_SECRET_KEY"),
    ("MINIO_BOTS_BUCKET", "MINIO_CODE_BUCKET"),
    ("MONGODB_URI", "MONGO_URI"),
    ("MEMORY_LIMIT_MB", "BOT_MEMORY_LIMIT_MB"),
    ("CPU_SHARES", "BOT_CPU_SHARES"),
];

/// `variables` under the names that count, with one warning about the older ones among them. A variable that is
/// there under its present name keeps that value. Whoever reads variables itself, and not by
/// [`Launch::parse`](super::Launch::parse), calls this first.
pub fn renamed(mut variables: Variables) -> Variables {
    let older = rename(&mut variables);
    if !older.is_empty() {
        tell(&older);
    }
    variables
}

fn tell(older: &[(&str, &str)]) {
    let pairs: Vec<String> = older
        .iter()
        .map(|(old, new)| format!("{new} for {old}"))
        .collect();
    crate::warn!(
        "older names of variables are set: write {}",
        pairs.join(", ")
    );
}

/// Gives the older names that were set.
fn rename(variables: &mut Variables) -> Vec<(&'static str, &'static str)> {
    let mut older = Vec::new();
    for (old, new) in OLDER {
        let Some(value) = variables.remove(old).filter(|value| !value.is_empty()) else {
            continue;
        };
        older.push((old, new));
        let present = variables.entry(new.to_owned()).or_default();
        if present.is_empty() {
            *present = value;
        }
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(of: &[(&str, &str)]) -> Variables {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        of.iter().map(owned).collect()
    }

    #[test]
    fn an_older_name_counts_where_the_present_one_is_not_set() {
        let mut given = variables(&[
            ("MINIO_ACCESS_KEY_ID", "old"),
            ("MINIO_SECRET_ACCESS_KEY", "old"),
            ("MINIO_SECRET_KEY", "new"),
            ("MINIO_BOTS_BUCKET", "bots"),
            ("MINIO_CODE_BUCKET", ""),
        ]);
        assert_eq!(rename(&mut given), OLDER[..3]);
        let expected = [
            ("MINIO_ACCESS_KEY", "old"),
            ("MINIO_SECRET_KEY", "new"),
            ("MINIO_CODE_BUCKET", "bots"),
        ];
        assert_eq!(given, variables(&expected));
    }

    #[test]
    fn present_names_give_no_warning() {
        let mut given = variables(&[("MINIO_ACCESS_KEY", "k"), ("MINIO_BOTS_BUCKET", "")]);
        assert!(rename(&mut given).is_empty());
        assert_eq!(given, variables(&[("MINIO_ACCESS_KEY", "k")]));
    }
}
