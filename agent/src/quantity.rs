//! Amounts of memory and CPU as Kubernetes writes them: `64Mi`, `1.5G`, `129e6`, `500m`, or a plain number.
//!
//! A number is a whole one or a decimal, and then a power of ten as a letter (`n u m k M G T P E`) or as `e3`, or for
//! bytes mostly, a power of two (`Ki Mi Gi Ti Pi Ei`). It is read exactly, without a float, and what is smaller than
//! the unit is rounded up, as Kubernetes does. Pure.

use serde_json::Value;
use thiserror::Error;

/// Why an amount cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadQuantity {
    /// It is not written as one.
    #[error(
        "is not an amount: give a number, or one followed by k, M, G, T (thousands), Ki, Mi, Gi, Ti (of 1024) or \
         m (thousandths), as in \"64Mi\" of memory or \"500m\" of a CPU"
    )]
    Garbage,
    /// It is zero or less.
    #[error("is not more than zero: give more, or leave it out for no limit of its own")]
    NotPositive,
    /// It is more than there can be.
    #[error("is more than can be counted: give less, or leave it out for no limit of its own")]
    TooMuch,
}

/// Bytes.
///
/// # Errors
/// It is not an amount above zero that can be counted.
pub fn memory(value: &Value) -> Result<u64, BadQuantity> {
    Amount::read(value)?.in_units(0)
}

/// Billionths of a CPU.
///
/// # Errors
/// As [`memory`].
pub fn cpu(value: &Value) -> Result<u64, BadQuantity> {
    Amount::read(value)?.in_units(9)
}

/// `digits * 10^ten * 2^two`, above zero.
struct Amount {
    digits: u128,
    ten: i32,
    two: u32,
}

impl Amount {
    fn read(value: &Value) -> Result<Self, BadQuantity> {
        match value {
            Value::String(text) => Self::parse(text),
            Value::Number(number) => match number.as_f64() {
                // The shortest decimal that is this double, and not its binary expansion.
                Some(double) if number.is_f64() => Self::parse(&double.to_string()),
                _ => Self::parse(&number.to_string()),
            },
            _ => Err(BadQuantity::Garbage),
        }
    }

    fn parse(text: &str) -> Result<Self, BadQuantity> {
        let (is_negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (suffix_ten, two) = powers(suffix).ok_or(BadQuantity::Garbage)?;
        let (digits, number_ten) = decimal(number)?;
        if is_negative || digits == 0 {
            return Err(BadQuantity::NotPositive);
        }
        let ten = number_ten.saturating_add(suffix_ten);
        Ok(Self { digits, ten, two })
    }

    /// How many units, where `10^fine` of them are one.
    fn in_units(&self, fine: i32) -> Result<u64, BadQuantity> {
        let ten = self.ten.saturating_add(fine);
        let power = 10u128.checked_pow(ten.unsigned_abs());
        let whole = self.digits.checked_mul(1 << self.two);
        let whole = whole.ok_or(BadQuantity::TooMuch)?;
        let units = match (ten >= 0, power) {
            (true, Some(power)) => whole.checked_mul(power).ok_or(BadQuantity::TooMuch)?,
            (true, None) => return Err(BadQuantity::TooMuch),
            (false, Some(power)) => whole.div_ceil(power),
            (false, None) => 1,
        };
        // Engines and the kernel count in signed numbers.
        let units = i64::try_from(units).map_err(|_| BadQuantity::TooMuch)?;
        Ok(units.unsigned_abs())
    }
}

/// The powers of ten and of two that a suffix stands for.
fn powers(suffix: &str) -> Option<(i32, u32)> {
    let ten = |power| Some((power, 0));
    let two = |power| Some((0, power));
    match suffix {
        "" => ten(0),
        "n" => ten(-9),
        "u" => ten(-6),
        "m" => ten(-3),
        "k" => ten(3),
        "M" => ten(6),
        "G" => ten(9),
        "T" => ten(12),
        "P" => ten(15),
        "E" => ten(18),
        "Ki" => two(10),
        "Mi" => two(20),
        "Gi" => two(30),
        "Ti" => two(40),
        "Pi" => two(50),
        "Ei" => two(60),
        _ => ten(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

/// The digits of `12.50` as a whole number, 125, and the power of ten it is to be multiplied with, -1.
fn decimal(number: &str) -> Result<(u128, i32), BadQuantity> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let part = part.trim_end_matches('0');
    if part.contains('.') || !number.contains(|c: char| c.is_ascii_digit()) {
        return Err(BadQuantity::Garbage);
    }
    let digits = [whole, part].concat();
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok((0, 0));
    }
    let digits = significant.parse().map_err(|_| BadQuantity::TooMuch)?;
    let ten = i32::try_from(part.len()).map_err(|_| BadQuantity::TooMuch)?;
    Ok((digits, -ten))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn memory_is_read_as_kubernetes_reads_it() {
        let rows = [
            (json!("64Mi"), 64 << 20),
            (json!("1Gi"), 1 << 30),
            (json!("500M"), 500_000_000),
            (json!("1e9"), 1_000_000_000),
            (json!("1E9"), 1_000_000_000),
            (json!("129e6"), 129_000_000),
            (json!("12.5e1"), 125),
            (json!("2E"), 2_000_000_000_000_000_000),
            (json!("128974848"), 128_974_848),
            (json!("128974848000m"), 128_974_848),
            (json!("123Mi"), 123 << 20),
            (json!("1.5Gi"), 3 << 29),
            (json!(".5Gi"), 1 << 29),
            (json!("5.Ki"), 5 << 10),
            (json!("+64k"), 64_000),
            (json!("0.1"), 1),
            (json!("0.0000000000000000000000000000000000000001"), 1),
            (json!(67_108_864), 64 << 20),
            (json!(67_108_864.0), 64 << 20),
            (json!(1.0e9), 1_000_000_000),
            (json!(i64::MAX), i64::MAX.unsigned_abs()),
            (json!("000000000000000000000000000000000000000000001"), 1),
            (json!("1.0000000000000000000000000000000000000000000"), 1),
        ];
        for (given, bytes) in rows {
            assert_eq!(memory(&given), Ok(bytes), "{given}");
        }
    }

    #[test]
    fn cpu_is_read_in_billionths() {
        let rows = [
            (json!("500m"), 500_000_000),
            (json!("0.5"), 500_000_000),
            (json!(0.5), 500_000_000),
            (json!(0.1), 100_000_000),
            (json!("2"), 2_000_000_000),
            (json!(2), 2_000_000_000),
            (json!("100n"), 100),
            (json!("100u"), 100_000),
            (json!("0.1n"), 1),
            (json!("1e-3"), 1_000_000),
        ];
        for (given, nano) in rows {
            assert_eq!(cpu(&given), Ok(nano), "{given}");
        }
    }

    #[test]
    fn what_is_no_amount_above_zero_is_refused() {
        use BadQuantity::{Garbage, NotPositive, TooMuch};
        let rows = [
            (json!("0"), NotPositive),
            (json!("0.000Mi"), NotPositive),
            (json!(0), NotPositive),
            (json!(0.0), NotPositive),
            (json!(-1), NotPositive),
            (json!(-0.5), NotPositive),
            (json!("-64Mi"), NotPositive),
            (json!("-0"), NotPositive),
            (json!("16Ei"), TooMuch),
            (json!("10E"), TooMuch),
            (json!("1e400"), TooMuch),
            (json!("1e2147483647"), TooMuch),
            (json!(1e300), TooMuch),
            (json!(u64::MAX), TooMuch),
            (json!("9".repeat(60)), TooMuch),
            (json!("1e99999999999"), Garbage),
            (json!("NaN"), Garbage),
            (json!("inf"), Garbage),
            (json!(""), Garbage),
            (json!("."), Garbage),
            (json!("Mi"), Garbage),
            (json!("e3"), Garbage),
            (json!("1.2.3"), Garbage),
            (json!("64 Mi"), Garbage),
            (json!(" 64Mi"), Garbage),
            (json!("64MB"), Garbage),
            (json!("64mi"), Garbage),
            (json!("64K"), Garbage),
            (json!("1e"), Garbage),
            (json!("1e3k"), Garbage),
            (json!("1e1.5"), Garbage),
            (json!("--1"), Garbage),
            (json!("0x10"), Garbage),
            (json!("1_000"), Garbage),
            (json!("٣"), Garbage),
            (json!(true), Garbage),
            (json!(["64Mi"]), Garbage),
        ];
        for (given, why) in rows {
            assert_eq!(memory(&given), Err(why), "{given}");
        }
        assert_eq!(cpu(&json!("10G")), Err(TooMuch));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.eEnumkKMGTPi ]{0,50}") {
            for read in [memory, cpu] {
                prop_assert_ne!(read(&json!(text)), Ok(0));
            }
        }

        #[test]
        fn a_whole_number_is_itself_however_it_is_written(bytes in 1..=1u64 << 50) {
            let written = [json!(bytes), json!(bytes.to_string()), json!(format!("{bytes}.000")), json!(format!("{bytes}e0"))];
            for given in written {
                prop_assert_eq!(memory(&given), Ok(bytes));
            }
            prop_assert_eq!(memory(&json!(format!("{bytes}k"))), Ok(bytes * 1000));
        }
    }
}
