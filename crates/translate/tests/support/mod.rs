//! Golden scenarios: one YAML file each, with the objects that are read, then a document `expect:`
//! with what comes of them. A document `settings:` may say what isn't in objects.

mod render;
mod scenario;

pub(crate) use scenario::{EXPECT, Scenario};
