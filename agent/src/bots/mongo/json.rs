//! BSON as JSON, the way a bot expects it: what JSON has too is the same, the rest is a text that a program can read
//! back. Pure.
//!
//! | BSON | JSON |
//! |---|---|
//! | ObjectId | its 24 hexadecimal digits |
//! | date | RFC 3339 in UTC, `2026-01-31T12:00:00.5Z` |
//! | decimal | its digits as a text, no float: `"0.10"` |
//! | NaN, infinities | `"NaN"`, `"Infinity"`, `"-Infinity"` |
//! | UUID; other bytes | `"6f9619ff-..."`; base64 |
//! | regular expression | `"/pattern/options"` |
//! | code, symbol | its text |
//! | timestamp | its seconds |
//! | undefined, lowest and highest key, pointer | null |

use data_encoding::BASE64;
use mongodb::bson::error::Error;
use mongodb::bson::raw::RawArray;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Decimal128, RawBinaryRef, RawBsonRef, RawDocument, Uuid};
use serde_json::{Map, Number, Value};

/// A document as an object.
///
/// # Errors
/// It is not BSON.
pub fn object(document: &RawDocument) -> Result<Value, Error> {
    let mut map = Map::new();
    for field in document {
        let (name, field) = field?;
        map.insert(name.as_str().to_owned(), value(field)?);
    }
    Ok(Value::Object(map))
}

fn array(list: &RawArray) -> Result<Value, Error> {
    list.into_iter().map(|item| value(item?)).collect()
}

fn value(bson: RawBsonRef<'_>) -> Result<Value, Error> {
    Ok(match bson {
        RawBsonRef::Document(document) => object(document)?,
        RawBsonRef::Array(list) => array(list)?,
        RawBsonRef::String(text) | RawBsonRef::Symbol(text) => text.into(),
        RawBsonRef::JavaScriptCode(code) => code.into(),
        RawBsonRef::JavaScriptCodeWithScope(code) => code.code.into(),
        RawBsonRef::Boolean(on) => on.into(),
        RawBsonRef::Int32(number) => number.into(),
        RawBsonRef::Int64(number) => number.into(),
        RawBsonRef::Double(number) => double(number),
        RawBsonRef::Decimal128(number) => decimal(number).into(),
        RawBsonRef::ObjectId(id) => id.to_hex().into(),
        RawBsonRef::DateTime(at) => at
            .try_to_rfc3339_string()
            .unwrap_or_else(|_| at.timestamp_millis().to_string())
            .into(),
        RawBsonRef::Timestamp(at) => at.time.into(),
        RawBsonRef::Binary(bytes) => binary(bytes).into(),
        RawBsonRef::RegularExpression(regex) => {
            format!("/{}/{}", regex.pattern.as_str(), regex.options.as_str()).into()
        }
        RawBsonRef::Null
        | RawBsonRef::Undefined
        | RawBsonRef::MaxKey
        | RawBsonRef::MinKey
        | RawBsonRef::DbPointer(_) => Value::Null,
    })
}

fn double(number: f64) -> Value {
    let text = || match number {
        _ if number.is_nan() => "NaN",
        _ if number > 0.0 => "Infinity",
        _ => "-Infinity",
    };
    Number::from_f64(number).map_or_else(|| text().into(), Value::Number)
}

/// Zero is `0` however many places it was given with: `enabled` may be one.
fn decimal(number: Decimal128) -> String {
    let text = number.to_string();
    let digits = text.split(['E', 'e']).next().unwrap_or(&text);
    let is_zero = digits.contains('0') && digits.chars().all(|c| matches!(c, '0' | '.' | '-'));
    if is_zero { "0".to_owned() } else { text }
}

fn binary(bytes: RawBinaryRef<'_>) -> String {
    match (bytes.subtype, bytes.bytes.try_into()) {
        (BinarySubtype::Uuid, Ok(uuid)) => Uuid::from_bytes(uuid).to_string(),
        _ => BASE64.encode(bytes.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::oid::ObjectId;
    use mongodb::bson::{
        Binary, Bson, DateTime, JavaScriptCodeWithScope, RawDocumentBuf, Regex, Timestamp, doc,
    };
    use serde_json::json;

    fn read(bson: impl Into<Bson>) -> Value {
        let document = RawDocumentBuf::try_from(&doc! { "field": bson.into() }).unwrap();
        object(&document).unwrap()["field"].take()
    }

    fn decimal(text: &str) -> Bson {
        Bson::Decimal128(text.parse().unwrap())
    }

    #[test]
    fn what_json_has_too_is_the_same() {
        let given = doc! {
            "text": "a\u{e9}\"", "on": true, "none": Bson::Null, "int": 7, "long": i64::MAX, "float": 0.1,
            "list": [1, "2", [3.0], {"x": 4_i64}], "nested": {"a.b": {"$c": 5}},
        };
        let expected = json!({
            "text": "a\u{e9}\"", "on": true, "none": null, "int": 7, "long": i64::MAX, "float": 0.1,
            "list": [1, "2", [3.0], {"x": 4}], "nested": {"a.b": {"$c": 5}},
        });
        let document = RawDocumentBuf::try_from(&given).unwrap();
        assert_eq!(object(&document).unwrap(), expected);
    }

    #[test]
    fn what_json_has_not_is_a_text_that_a_program_reads_back() {
        let id = "65f0c0ffee0123456789abcd";
        let uuid = "6f9619ff-8b86-d011-b42d-00c04fc964ff";
        let bytes = |subtype| Binary {
            subtype,
            bytes: vec![0, 255, 16],
        };
        let regex = Regex {
            pattern: "^a/b".to_owned().try_into().unwrap(),
            options: "i".to_owned().try_into().unwrap(),
        };
        let scoped = JavaScriptCodeWithScope {
            code: "x".into(),
            scope: doc! { "x": 1 },
        };
        let at = Timestamp {
            time: 42,
            increment: 1,
        };
        let rows = [
            (read(ObjectId::parse_str(id).unwrap()), json!(id)),
            (
                read(DateTime::from_millis(1_769_860_800_500)),
                json!("2026-01-31T12:00:00.5Z"),
            ),
            (read(decimal("0.10")), json!("0.10")),
            (
                read(decimal("12345678901234567890.5")),
                json!("12345678901234567890.5"),
            ),
            (read(decimal("0.000")), json!("0")),
            (read(decimal("-0E+3")), json!("0")),
            (read(decimal("NaN")), json!("NaN")),
            (read(decimal("Infinity")), json!("Infinity")),
            (read(f64::NAN), json!("NaN")),
            (read(f64::INFINITY), json!("Infinity")),
            (read(f64::NEG_INFINITY), json!("-Infinity")),
            (read(Uuid::parse_str(uuid).unwrap()), json!(uuid)),
            (read(bytes(BinarySubtype::Generic)), json!("AP8Q")),
            (read(bytes(BinarySubtype::Uuid)), json!("AP8Q")),
            (read(Bson::RegularExpression(regex)), json!("/^a/b/i")),
            (read(Bson::JavaScriptCode("f()".into())), json!("f()")),
            (read(Bson::JavaScriptCodeWithScope(scoped)), json!("x")),
            (read(Bson::Symbol("s".into())), json!("s")),
            (read(Bson::Timestamp(at)), json!(42)),
            (read(Bson::Undefined), json!(null)),
            (read(Bson::MinKey), json!(null)),
            (read(Bson::MaxKey), json!(null)),
        ];
        for (n, (read, expected)) in rows.into_iter().enumerate() {
            assert_eq!(read, expected, "row {n}");
        }
    }

    #[test]
    fn what_is_not_bson_is_refused() {
        // A document of one text that says it has more bytes than there are.
        let bytes = b"\x10\0\0\0\x02a\0\xff\0\0\0b\0\0\0\0";
        let document = RawDocument::from_bytes(bytes).unwrap();
        assert!(object(document).is_err());
    }
}
