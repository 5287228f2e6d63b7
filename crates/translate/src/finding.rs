use std::borrow::Cow;

use l4way_resources::{
    Severity,
    status::{Condition, ConditionStatus},
};

/// One outcome of looking at an object: a condition but for the generation that it was seen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The condition's type.
    pub(crate) kind: &'static str,
    /// Whether it holds.
    pub(crate) status: ConditionStatus,
    /// Why, as one word.
    pub(crate) reason: &'static str,
    /// Why, as a sentence.
    pub(crate) message: Cow<'static, str>,
}

impl Outcome {
    /// The condition, on an object of this generation.
    pub(crate) fn observed(&self, generation: i64) -> Condition {
        Condition {
            kind: self.kind.into(),
            status: self.status,
            reason: self.reason.into(),
            message: self.message.to_string(),
            observed_generation: generation,
        }
    }
}

/// Something to tell about one field of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) severity: Severity,
    /// The field, as a JSON pointer (RFC 6901) into the object.
    pub(crate) pointer: String,
    pub(crate) message: String,
}

/// What was found out about a node of the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    outcomes: Vec<Outcome>,
    notes: Vec<Note>,
}

impl Findings {
    /// Something is wrong with the field at `pointer`, with these consequences. The first
    /// outcome's message is what a check tells.
    pub(crate) fn error<const N: usize>(
        &mut self,
        pointer: impl Into<String>,
        outcomes: [Outcome; N],
    ) {
        if let Some(first) = outcomes.first() {
            self.note(Severity::Error, pointer, first.message.to_string());
        }
        self.outcomes.extend(outcomes);
    }

    /// A consequence of what was told already, elsewhere.
    pub(crate) fn told(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Something is worth knowing about the field at `pointer` and has this consequence.
    pub(crate) fn tell(
        &mut self,
        severity: Severity,
        pointer: impl Into<String>,
        outcome: Outcome,
    ) {
        self.note(severity, pointer, outcome.message.to_string());
        self.outcomes.push(outcome);
    }

    /// Something to tell that no condition says.
    pub(crate) fn note(
        &mut self,
        severity: Severity,
        pointer: impl Into<String>,
        message: impl Into<String>,
    ) {
        self.notes.push(Note { severity, pointer: pointer.into(), message: message.into() });
    }

    /// The first outcome for the condition of this type: what was found first weighs most.
    pub(crate) fn outcome(&self, kind: &str) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.kind == kind)
    }

    /// What there is to tell.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }
}
