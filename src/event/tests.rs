use super::*;

/// Every kind can be made from data of the right shape: generated from the catalogue's field types, so that no kind can be forgotten.
fn sample(ty: &str) -> serde_json::Value {
    use serde_json::json;
    let hex = |n: usize| "ab".repeat(n / 2);
    match ty.replace(' ', "").as_str() {
        "u32" | "u64" | "AttemptNo" => json!(3),
        "bool" => json!(true),
        "String" => json!("text ✓"),
        "CommitId" | "TreeId" => json!(hex(40)),
        "EvidenceId" | "PatchId" => json!(hex(64)),
        "StoryId" => json!("US-1"),
        "Timestamp" => json!("2026-11-21T08:00:00Z"),
        "StopReason" => json!("finished"),
        "Task" => json!("repair"),
        "Verdict" => json!("needs_approval"),
        "GateResult" => json!("red"),
        "AttemptEnd" => json!({"how": "provider_limit", "provider": "p", "until": "2026-11-21T08:00:00Z"}),
        "Amount" => json!({"model_calls": 1, "tokens_in": 2, "tokens_out": 3, "cost_microusd": 4, "wall_ms": 5}),
        "AgentCall" => {
            json!({"role": "reviewer", "agent": "claude/m", "version": "2.1.0", "profile": "reviewer", "text": "1", "text_hash": hex(64),
            "prompt": hex(64), "cut": ["overview"]})
        }
        "Block" => json!({"reason": "question", "question": "which?", "next": "cofferdam answer US-1 …"}),
        "Finding" => json!({"text": "t", "path": "a/b", "line": 3, "criterion": "AC-1", "severity": "high"}),
        "CriterionVerdict" => json!({"id": "AC-1", "pass": true, "evidence": "a:1"}),
        "StorySpec" => json!({
            "title": "t", "epic": null, "ordinal": 1, "after": ["US-0"], "wired_with": [], "criteria": [{"id": "AC-1", "text": "x"}],
            "proof": "p", "automatable": true,
            "rules": {"contract": "off", "evaluators": ["checks"], "gates": ["test"], "diagnose": false, "propose": false, "landing": "queue",
                "limits": serde_json::to_value(Limits::default()).expect("json")},
        }),
        other => {
            if let Some(inner) = other.strip_prefix("Option<").or_else(|| other.strip_prefix("Vec<")).and_then(|t| t.strip_suffix('>')) {
                return if other.starts_with("Vec<") { json!([sample(inner)]) } else { sample(inner) };
            }
            panic!("teach this test to make a {other}")
        }
    }
}

pub(crate) fn samples() -> Vec<Kind> {
    CATALOG
        .iter()
        .map(|doc| {
            let data = doc.fields.iter().map(|(name, ty, _)| ((*name).to_owned(), sample(ty))).collect();
            Kind::from_parts(doc.name, serde_json::Value::Object(data)).expect(doc.name)
        })
        .collect()
}

#[test]
fn every_kind_survives_its_json() {
    let samples = samples();
    assert_eq!(samples.len(), CATALOG.len());
    for (kind, doc) in samples.iter().zip(CATALOG) {
        assert_eq!(kind.name(), doc.name);
        assert!(!matches!(kind, Kind::Unknown { .. }), "{}", doc.name);
        let back = Kind::from_parts(kind.name(), kind.data()).expect(doc.name);
        assert_eq!(&back, kind);
        assert_eq!(back.data().to_string(), kind.data().to_string(), "the canonical text is stable");
    }
}

#[test]
fn names_are_unique() {
    let names: std::collections::BTreeSet<_> = CATALOG.iter().map(|doc| doc.name).collect();
    assert_eq!(names.len(), CATALOG.len());
}

#[test]
fn a_kind_of_the_future_is_kept_whole() {
    let data = serde_json::json!({"z": [1, 2.5, "x"], "a": {"deep": null}});
    let kind = Kind::from_parts("warp.engaged", data.clone()).expect("kept");
    assert_eq!(kind.name(), "warp.engaged");
    assert_eq!(kind.data(), data);
}

#[test]
fn a_known_kind_with_bad_data_is_an_error_and_a_new_field_is_not() {
    let error = Kind::from_parts("story.queued", serde_json::json!({"commit": "../x"})).expect_err("bad commit").to_string();
    assert!(error.contains("story.queued"), "{error}");
    let commit = "ab".repeat(20);
    let kind = Kind::from_parts("story.queued", serde_json::json!({"commit": commit, "new": 1})).expect("a field of the future");
    assert_eq!(kind, Kind::StoryQueued { commit: commit.parse().expect("id") });
}

#[test]
fn actors_round_trip() {
    for actor in [Actor::Runner, Actor::Human("a:b".to_owned()), Actor::Other("bot".to_owned())] {
        assert_eq!(actor.to_string().parse::<Actor>(), Ok(actor));
    }
}

#[test]
fn the_catalogue_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/event-catalog.md");
    if std::env::var_os("COFFERDAM_UPDATE_DOCS").is_some() {
        fs_err::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).expect("docs");
        fs_err::write(path, catalog_markdown()).expect("written");
    }
    assert_eq!(
        fs_err::read_to_string(path).expect("docs/event-catalog.md"),
        catalog_markdown(),
        "run COFFERDAM_UPDATE_DOCS=1 cargo test event::"
    );
    for kind in CATALOG {
        assert!(kind.doc.trim().ends_with(['.', '?']), "{} is not documented in a sentence", kind.name);
    }
}
