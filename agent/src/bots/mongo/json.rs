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
