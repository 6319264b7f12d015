//! The schemas of documents that have no reader of their own to come with.

use serde_json::{Value, json};

use crate::event::{CATALOG, EVENT_VERSION};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// One line of `log --json` and of `run --json`.
pub(super) fn events() -> Value {
    let kinds: Vec<Value> = CATALOG
        .iter()
        .map(|kind| {
            let properties: serde_json::Map<String, Value> = kind
                .fields
                .iter()
                .map(|(name, ty, doc)| {
                    let mut schema = of_type(&ty.replace(' ', ""));
                    if !doc.is_empty()
                        && let Value::Object(schema) = &mut schema
                    {
                        schema.insert("description".to_owned(), doc.trim().into());
                    }
                    ((*name).to_owned(), schema)
                })
                .collect();
            let data = json!({"type": "object", "properties": properties});
            json!({"description": kind.doc.trim(), "properties": {"kind": {"const": kind.name}, "data": data}})
        })
        .collect();
    let hash = json!({"type": "string", "pattern": "^[0-9a-f]{64}$"});
    let optional = json!({"type": ["string", "null"]});
    json!({
        "$schema": DRAFT,
        "title": "cofferdam event",
        "description": "One line of `cofferdam log --json`. A reader must ignore kinds and fields that it does not know.",
        "type": "object",
        "required": ["version", "seq", "prev_hash", "at", "kind", "actor", "data", "hash"],
        "properties": {
            "version": {"type": "integer", "minimum": 1, "maximum": EVENT_VERSION},
            "seq": {"type": "integer", "minimum": 1},
            "prev_hash": hash.clone(),
            "hash": hash,
            "at": {"type": "string", "format": "date-time"},
            "run": optional.clone(),
            "story": optional,
            "kind": {"type": "string"},
            "actor": {"type": "string"},
            "data": {"type": "object"},
        },
        "anyOf": kinds.into_iter().chain([json!({"description": "A kind of a newer version."})]).collect::<Vec<_>>(),
    })
}

/// What a field's type allows. A type of ours is shown by the catalogue's page; here it is anything.
fn of_type(ty: &str) -> Value {
    let inner = |name: &str| ty.strip_prefix(name)?.strip_prefix('<')?.strip_suffix('>');
    if let Some(inner) = inner("Option") {
        return json!({"anyOf": [of_type(inner), {"type": "null"}]});
    }
    if let Some(inner) = inner("Vec") {
        return json!({"type": "array", "items": of_type(inner)});
    }
    match ty {
        "u32" | "u64" => json!({"type": "integer", "minimum": 0}),
        "AttemptNo" => json!({"type": "integer", "minimum": 1}),
        "bool" => json!({"type": "boolean"}),
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "CommitId" | "TreeId" => json!({"type": "string", "pattern": "^[0-9a-f]{40}$"}),
        "EvidenceId" | "PatchId" => json!({"type": "string", "pattern": "^[0-9a-f]{64}$"}),
        "String" | "StoryId" | "RunId" | "Verdict" | "GateResult" | "Task" | "StopReason" => json!({"type": "string"}),
        "AttemptEnd" => json!({"type": "object", "required": ["how"], "properties": {
            "how": {"enum": ["finished", "failed", "provider_limit", "interrupted", "could_not_start"]},
        }}),
        _ => json!({"type": "object"}),
    }
}

/// The document of `exec --outcome`.
pub(super) fn outcome() -> Value {
    let count = || json!({"type": "integer", "minimum": 0});
    let text = || json!({"type": "string"});
    let layer = json!({"type": "object", "required": ["name", "wanted", "supported", "enforced"], "properties": {
        "name": text(), "wanted": {"type": "boolean"}, "supported": {"type": "boolean"}, "enforced": {"type": "boolean"},
        "probed": {"type": ["boolean", "null"]}, "detail": text(),
    }});
    json!({
        "$schema": DRAFT,
        "title": "cofferdam outcome",
        "description": "How a sandboxed command ended, and why: `cofferdam exec --outcome FILE`",
        "type": "object",
        "required": ["version", "cause", "exit_code", "wall_ms", "cpu_ms", "peak_memory_bytes", "peak_pids", "output_bytes", "denials", "receipt"],
        "properties": {
            "version": {"const": crate::sandbox::outcome::OUTCOME_VERSION},
            "cause": {"enum": ["exited", "signalled", "wall", "cpu", "silence", "memory", "pids", "disk", "files", "output", "exec_failed", "cancelled"]},
            "exit_code": {"type": "integer"},
            "signal": {"type": ["integer", "null"]},
            "wall_ms": count(), "cpu_ms": count(), "peak_memory_bytes": count(), "peak_pids": count(), "output_bytes": count(),
            "processes_left": {"const": 0},
            "detail": {"type": ["string", "null"]},
            "denials": {"type": "array", "items": {"type": "object"}},
            "receipt": {"type": "object", "required": ["tier", "kernel", "limits", "layers"], "properties": {
                "tier": {"enum": ["full", "no-userns"]}, "kernel": text(), "landlock_abi": {"type": ["integer", "null"]},
                "limits": {"enum": ["v2", "v1", "supervised"]}, "layers": {"type": "array", "items": layer},
            }},
        },
    })
}
