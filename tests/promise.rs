//! Whether answers of the agent's API are as its OpenAPI document says.
//!
//! The part of JSON Schema that the document uses, and no more: a word that is not known here is an error, so that nothing is
//! promised that is not looked at. An object has no property that its schema does not name. (A crate for all of JSON Schema
//! would build half of the workspace's dependencies anew, with other features than those that ship.)

use serde_json::{Map, Value};

/// A document, and what of it was seen.
#[derive(Debug)]
pub struct Document(Value);

impl Document {
    /// Takes one that is sound: its references lead somewhere, its schemas are understood, each operation has a name of its own
    /// and each of its path's parameters.
    ///
    /// # Errors
    /// What is not sound.
    pub fn new(document: Value) -> Result<Self, String> {
        let document = Self(document);
        let version = document.0["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.1.") || !document.0["info"]["version"].is_string() {
            return Err("it is not an OpenAPI 3.1 document".to_owned());
        }
        document.references(&document.0)?;
        for (name, schema) in object(&document.0["components"]["schemas"])? {
            Self::understood(schema).map_err(|why| format!("schema {name}: {why}"))?;
        }
        let mut names = Vec::new();
        for (method, path, operation) in document.operations() {
            let at = |why: &str| format!("{method} {path}: {why}");
            let name = operation["operationId"].as_str();
            let name = name.ok_or_else(|| at("no operationId"))?;
            if names.contains(&name) {
                return Err(at("its operationId is another's"));
            }
            names.push(name);
            document
                .parameters(&path, operation)
                .map_err(|why| at(&why))?;
            for status in document.statuses(operation) {
                document.schema(operation, status).map_err(|why| at(&why))?;
            }
        }
        Ok(document)
    }

    /// Every method and path with its operation.
    pub fn operations(&self) -> Vec<(String, String, &Value)> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        let methods = paths.flat_map(|(path, item)| {
            let item = item.as_object().into_iter().flatten();
            item.map(|(method, operation)| (method.to_uppercase(), path.clone(), operation))
        });
        methods.collect()
    }

    /// The statuses an operation may answer with.
    pub fn statuses(&self, operation: &Value) -> Vec<u16> {
        let answers = operation["responses"].as_object().into_iter().flatten();
        answers
            .filter_map(|(status, _)| status.parse().ok())
            .collect()
    }

    /// Whether an answer is one that the operation may give.
    ///
    /// # Errors
    /// Where and why not.
    pub fn allows(
        &self,
        method: &str,
        path: &str,
        status: u16,
        body: &Value,
    ) -> Result<(), String> {
        let operations = self.operations();
        let mut found = operations.into_iter();
        let found = found.find(|(known, template, _)| known == method && template == path);
        let (_, _, operation) = found.ok_or_else(|| format!("there is no {method} {path}"))?;
        let schema = self.schema(operation, status)?;
        self.fits(schema, body)
            .map_err(|why| format!("{method} {path} {status}: {why} in {body}"))
    }

    fn schema<'a>(&'a self, operation: &'a Value, status: u16) -> Result<&'a Value, String> {
        let answer = &operation["responses"][status.to_string()];
        let answer = self.resolved(answer)?;
        let schema = &answer["content"]["application/json"]["schema"];
        if !schema.is_object() {
            return Err(format!("no answer {status} with a schema"));
        }
        Self::understood(schema)?;
        Ok(schema)
    }

    fn parameters(&self, path: &str, operation: &Value) -> Result<(), String> {
        let mut named = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = self.resolved(parameter)?;
            Self::understood(&parameter["schema"])?;
            if parameter["in"] == "path" {
                named.push(format!(
                    "{{{}}}",
                    parameter["name"].as_str().unwrap_or_default()
                ));
            }
        }
        let parts: Vec<&str> = path
            .split('/')
            .filter(|part| part.starts_with('{'))
            .collect();
        if parts == named {
            return Ok(());
        }
        Err(format!("its parameters are {named:?}"))
    }

    /// Follows references.
    fn resolved<'a>(&'a self, value: &'a Value) -> Result<&'a Value, String> {
        let Some(reference) = value["$ref"].as_str() else {
            return Ok(value);
        };
        let pointer = reference.strip_prefix('#').unwrap_or_default();
        let target = self.0.pointer(pointer);
        target.ok_or_else(|| format!("{reference} leads nowhere"))
    }

    fn references(&self, value: &Value) -> Result<(), String> {
        self.resolved(value)?;
        match value {
            Value::Object(fields) => fields.values().try_for_each(|value| self.references(value)),
            Value::Array(items) => items.iter().try_for_each(|value| self.references(value)),
            _ => Ok(()),
        }
    }

    /// Whether each word of a schema is known here.
    fn understood(schema: &Value) -> Result<(), String> {
        let fields = object(schema)?;
        for (word, value) in fields {
            match word.as_str() {
                "description" | "format" | "default" | "enum" | "required" | "$ref" => {}
                "minimum" | "maximum" | "minLength" if value.is_number() => {}
                "type" if types(value).iter().all(|name| TYPES.contains(name)) => {}
                "additionalProperties" if *value == Value::Bool(false) => {}
                "items" => Self::understood(value)?,
                "properties" => {
                    for schema in object(value)?.values() {
                        Self::understood(schema)?;
                    }
                }
                other => return Err(format!("{other}: {value} is not understood")),
            }
        }
        let required = fields.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten() {
            if schema["properties"]
                .get(name.as_str().unwrap_or_default())
                .is_none()
            {
                return Err(format!("{name} is required and not described"));
            }
        }
        Ok(())
    }

    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let schema = self.resolved(schema)?;
        let wanted = types(&schema["type"]);
        if !wanted.is_empty() && !wanted.iter().any(|name| is_of(name, value)) {
            return Err(format!("{value} is no {wanted:?}"));
        }
        if let Some(words) = schema["enum"].as_array()
            && !words.contains(value)
        {
            return Err(format!("{value} is none of {words:?}"));
        }
        let number = value.as_f64();
        let bound = |name: &str| schema[name].as_f64();
        let below = number
            .zip(bound("minimum"))
            .is_some_and(|(n, least)| n < least);
        let above = number
            .zip(bound("maximum"))
            .is_some_and(|(n, most)| n > most);
        if below || above {
            return Err(format!("{value} is out of bounds"));
        }
        if schema["format"] == "date-time" && !value.as_str().is_some_and(is_time) {
            return Err(format!("{value} is no time"));
        }
        match value {
            Value::Array(items) => items
                .iter()
                .try_for_each(|item| self.fits(&schema["items"], item)),
            Value::Object(fields) => self.fields(schema, fields),
            _ => Ok(()),
        }
    }

    fn fields(&self, schema: &Value, fields: &Map<String, Value>) -> Result<(), String> {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().unwrap_or_default()) {
                return Err(format!("{name} is missing"));
            }
        }
        let Some(properties) = schema["properties"].as_object() else {
            return Ok(());
        };
        for (name, value) in fields {
            let schema = properties.get(name);
            let schema = schema.ok_or_else(|| format!("{name} is not described"))?;
            self.fits(schema, value)
                .map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(())
    }
}

const TYPES: [&str; 7] = [
    "object", "array", "string", "integer", "number", "boolean", "null",
];

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| format!("{value} is no object"))
}

fn types(value: &Value) -> Vec<&str> {
    match value {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

/// Whether it looks like `2026-11-21T07:52:48.123Z`.
fn is_time(text: &str) -> bool {
    let digits = |text: &str| {
        text.chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect::<String>()
    };
    let shape = digits(text);
    let shape = shape
        .strip_prefix("0000-00-00T00:00:00")
        .and_then(|rest| rest.strip_suffix('Z'));
    shape.is_some_and(|rest| {
        rest.is_empty()
            || rest
                .strip_prefix('.')
                .is_some_and(|f| !f.is_empty() && f.chars().all(|c| c == '0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document() -> Value {
        let thing = json!({"type": "object", "required": ["id"], "properties": {
            "id": {"type": "string"}, "count": {"type": ["integer", "null"], "minimum": 1, "maximum": 3},
            "at": {"type": "string", "format": "date-time"}, "kind": {"type": "string", "enum": ["a", "b"]},
            "more": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}}});
        let answer = json!({"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}});
        let parameters = json!([{"name": "x", "in": "path", "schema": {"type": "string"}}]);
        json!({"openapi": "3.1.0", "info": {"version": "1"},
            "paths": {"/a/{x}": {"get": {"operationId": "a", "parameters": parameters, "responses": {"200": answer}}}},
            "components": {"schemas": {"Thing": thing}}})
    }

    #[test]
    fn what_the_document_does_not_say_is_found() {
        let document = Document::new(document()).unwrap();
        let good = json!({"id": "x", "count": null, "at": "2026-11-21T07:52:48.123Z", "kind": "a", "more": [{"id": "y"}]});
        document.allows("GET", "/a/{x}", 200, &good).unwrap();
        for bad in [
            json!({}),
            json!([]),
            json!(null),
            json!({"id": 1}),
            json!({"id": "x", "other": 1}),
            json!({"id": "x", "count": 0}),
            json!({"id": "x", "count": 4}),
            json!({"id": "x", "count": 1.5}),
            json!({"id": "x", "count": "1"}),
            json!({"id": "x", "at": "yesterday"}),
            json!({"id": "x", "kind": "c"}),
            json!({"id": "x", "more": [{"id": "y"}, {"id": 2}]}),
        ] {
            assert!(
                document.allows("GET", "/a/{x}", 200, &bad).is_err(),
                "{bad}"
            );
        }
        for (method, path, status) in [
            ("POST", "/a/{x}", 200),
            ("GET", "/b", 200),
            ("GET", "/a/{x}", 404),
        ] {
            assert!(document.allows(method, path, status, &good).is_err());
        }
    }

    #[test]
    fn a_document_that_is_not_sound_is_refused() {
        let changes: [(&str, Value); 7] = [
            ("/openapi", json!("2.0")),
            (
                "/components/schemas/Thing/properties/more/items/$ref",
                json!("#/components/schemas/Other"),
            ),
            (
                "/components/schemas/Thing/properties/id",
                json!({"type": "text"}),
            ),
            (
                "/components/schemas/Thing/properties/id",
                json!({"pattern": "x"}),
            ),
            ("/components/schemas/Thing/required", json!(["name"])),
            ("/paths/~1a~1{x}/get/parameters", json!([])),
            ("/paths/~1a~1{x}/get/responses/200/content", json!({})),
        ];
        for (pointer, value) in changes {
            let mut document = document();
            *document.pointer_mut(pointer).unwrap() = value;
            assert!(Document::new(document).is_err(), "{pointer}");
        }
    }
}
