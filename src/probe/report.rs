//! What the self-test found, as a document and as lines for a person. Pure.

use serde::{Deserialize, Serialize};

use super::attack::{Attempt, Section};
use super::judge::{ControlShown, Verdict};
use crate::base::text::{cut, one_line, plural};

/// The version of the document below.
pub const REPORT_VERSION: u32 = 1;

/// One attack, as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub id: String,
    pub section: Section,
    pub title: String,
    pub verdict: Verdict,
    /// In a few words: the error's name, `not there`, `limit: memory`.
    pub said: String,
    pub attempt: Attempt,
    #[serde(flatten)]
    pub control: ControlShown,
    /// What was seen outside that should not be.
    pub seen_outside: Vec<String>,
    /// What a host would need to refuse it, for the few attacks that not every host can.
    pub lacks: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    pub profile: String,
    pub uid: u32,
    pub kernel: String,
    /// Did every attack fail as it must?
    pub held: bool,
    pub attacks: Vec<Line>,
    /// Effects outside that belong to no single attack.
    pub seen_outside: Vec<String>,
}

impl Report {
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.attacks.iter().filter(|line| line.verdict == verdict).count() as u64
    }

    /// Controls that should have worked outside and did not.
    pub fn weak(&self) -> impl Iterator<Item = &Line> {
        self.attacks.iter().filter(|line| matches!(line.control, ControlShown::Failed { .. }))
    }

    /// For a terminal of 80 columns.
    pub fn text(&self) -> String {
        let mut lines =
            vec![format!("cofferdam probe: profile {}, user {}, kernel {}", one_line(&self.profile), self.uid, one_line(&self.kernel))];
        for section in Section::ALL {
            let of: Vec<&Line> = self.attacks.iter().filter(|line| line.section == section).collect();
            if of.is_empty() {
                continue;
            }
            lines.push(String::new());
            lines.push(format!("{:<49} {:<14} {}", section.title(), "inside", "outside"));
            for line in of {
                let said = cut(&one_line(&line.said), 14);
                lines.push(format!("{} {:<44} {said:<14} {}", mark(line.verdict), cut(&line.title, 44), cut(&line.control.short(), 15)));
                if !matches!(line.verdict, Verdict::Held | Verdict::Inapplicable) {
                    lines.push(format!("       {}: {}", line.id, one_line(&line.attempt.long())));
                }
                if let (Verdict::Gap, Some(lacks)) = (line.verdict, &line.lacks) {
                    lines.push(format!("       {lacks}"));
                }
                lines.extend(line.seen_outside.iter().map(|what| format!("       seen outside: {}", one_line(what))));
            }
        }
        if !self.seen_outside.is_empty() {
            lines.push(String::new());
            lines.extend(self.seen_outside.iter().map(|what| format!("HOLE  seen outside: {}", one_line(what))));
        }
        lines.push(String::new());
        lines.push(self.summary());
        lines.join("\n")
    }

    fn summary(&self) -> String {
        let tried = self.attacks.len() as u64 - self.count(Verdict::Inapplicable);
        let mut parts = vec![format!("{} tried", plural(tried, "attack", "attacks")), format!("{} held", self.count(Verdict::Held))];
        let broken = self.count(Verdict::Broken) + u64::from(!self.seen_outside.is_empty());
        if broken > 0 {
            parts.push(plural(broken, "hole", "holes"));
        }
        let unproven = self.count(Verdict::Unproven);
        if unproven > 0 {
            parts.push(format!("{unproven} not proven"));
        }
        let gaps = self.count(Verdict::Gap);
        if gaps > 0 {
            parts.push(plural(gaps, "known gap", "known gaps"));
        }
        let nothing = self.count(Verdict::Inapplicable);
        if nothing > 0 {
            parts.push(format!("{nothing} had nothing to attack here"));
        }
        let works =
            self.attacks.iter().filter(|line| matches!(line.control, ControlShown::Works | ControlShown::Arrives { .. })).count() as u64;
        let mut lines = vec![format!("{}.", parts.join(", "))];
        if works > 0 {
            lines.push(format!("{} outside, where nothing protects.", plural(works, "of them works", "of them work")));
        }
        let weak = self.weak().count() as u64;
        if weak > 0 {
            lines.push(format!("{} outside too, though it should work: the answer inside proves less.", plural(weak, "fails", "fail")));
        }
        let held = if gaps > 0 { "The sandbox held, but for the gaps named above." } else { "The sandbox held." };
        lines.push(if self.held { held } else { "The sandbox did NOT hold." }.to_owned());
        lines.join("\n")
    }
}

const fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "ok  ",
        Verdict::Broken => "HOLE",
        Verdict::Unproven => "??  ",
        Verdict::Gap => "gap ",
        Verdict::Inapplicable => "-   ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, verdict: Verdict, said: &str) -> Line {
        Line {
            id: id.to_owned(),
            section: Section::of(id).unwrap(),
            title: "outlive the limit: no SIGTERM, setsid, forks".to_owned(),
            verdict,
            said: said.to_owned(),
            attempt: Attempt::NotThere { what: "gone".to_owned() },
            control: ControlShown::Arrives { errno: libc::EPROTONOSUPPORT },
            seen_outside: Vec::new(),
            lacks: None,
        }
    }

    #[test]
    fn lines_fit_eighty_columns_and_a_hole_is_not_overlooked() {
        let report = Report {
            version: REPORT_VERSION,
            profile: "default".to_owned(),
            uid: 0,
            kernel: "6.18".to_owned(),
            held: false,
            attacks: vec![
                line("A-x", Verdict::Held, "EPROTONOSUPPORT and more"),
                Line {
                    control: ControlShown::Failed { outside: Attempt::NoAnswer { why: "busy".to_owned() } },
                    ..line("B-y", Verdict::Broken, "it worked")
                },
            ],
            seen_outside: Vec::new(),
        };
        let text = report.text();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("HOLE") && text.contains("1 hole") && text.ends_with("did NOT hold."), "{text}");
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
