//! A configuration that no proxy can read: each goes on with the one that it has.

use serde_json::Value;

use super::{
    installation::{SYSTEM, Version},
    scene::Scene,
};
use crate::support::{Ask, ask, get, kubectl, l4way, wait_for};

/// Controllers whose every configuration requires a feature that no proxy has. They are as they were when
/// the test ends.
struct InventedFeature;

impl InventedFeature {
    fn begin() -> Self {
        set_environment("L4WAY_REQUIRE_FEATURES=invented");
        Self
    }
}

impl Drop for InventedFeature {
    fn drop(&mut self) {
        set_environment("L4WAY_REQUIRE_FEATURES-");
    }
}

fn set_environment(change: &str) {
    let deployment = "deployment/l4way-controller";
    kubectl(&["set", "env", deployment, change, "--namespace", SYSTEM]);
    kubectl(&["rollout", "status", deployment, "--namespace", SYSTEM, "--timeout=120s"]);
}

#[test]
fn proxies_that_cant_read_a_configuration_go_on_with_the_one_before() {
    let this = Version::this();
    this.install();
    let mut scene = Scene::set("features");
    scene.rolled(&this.image);
    let mut invented = None;
    scene.during("a configuration that no proxy can read", |scene| {
        invented = Some(InventedFeature::begin());
        scene.change();
        is_refused(scene);
        scene.serves_what_was_before();
        follows_endpoints(scene);
        scene.renew_certificate();
        status_tells_of_each(scene);
    });

    let before = scene.gateway().pods();
    scene.namespace.kubectl(&["delete", "pod", &before[0].name]);
    wait_for("a successor that runs and isn't ready, and nobody else", || {
        let selector = scene.gateway().selector();
        let pods = get(scene.namespace.name(), &["pods", "--selector", &selector]);
        let pods: Vec<_> = pods["items"].as_array().into_iter().flatten().cloned().collect();
        let old = |pod: &&Value| before.iter().any(|old| pod["metadata"]["uid"] == old.uid);
        let (old, new): (Vec<_>, Vec<_>) = pods.iter().partition(old);
        let container = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
        let waits = |pod: &&Value| {
            let container = container(pod);
            container["state"]["running"].is_object() && container["ready"] == false
        };
        let is_so = old.len() == 1 && new.len() == 1 && new.iter().all(waits);
        if is_so {
            Ok(())
        } else {
            Err(format!("{:?}", new.into_iter().map(container).collect::<Vec<_>>()))
        }
    });
    is_refused(&scene);
    scene.serves_what_was_before();

    drop(invented);
    scene.is_served_by(&this.image);
}

/// Waits until the Gateway's status says of a proxy what it can't read, and that it goes on.
fn is_refused(scene: &Scene) {
    wait_for("the Gateway's status to tell of the feature", || {
        let gateway = scene.gateway().object();
        let conditions = gateway["status"]["conditions"].as_array().into_iter().flatten();
        let pods = scene.gateway().pods();
        let mut told = conditions.filter(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["type"] == "Programmed"
                && condition["status"] == "False"
                && condition["observedGeneration"] == gateway["metadata"]["generation"]
                && ["invented", "still serves the configuration before"]
                    .iter()
                    .all(|words| message.contains(words))
                && pods.iter().any(|pod| message.contains(&pod.name))
        });
        told.next().map(|_| ()).ok_or_else(|| format!("{:#}", gateway["status"]))
    });
}

/// Sees to it that new sessions reach a pod that has come meanwhile.
fn follows_endpoints(scene: &Scene) {
    let old = scene.namespace.kubectl(&["get", "pods", "--selector=app=app", "--output=name"]);
    scene.namespace.kubectl(&["scale", "deployment/app", "--replicas=3"]);
    wait_for("an answer of a new pod", || match ask(scene.tcp) {
        Ok(Ask::Answer(answer)) if !old.contains(answer.lines().next().unwrap_or_default()) => {
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
}

/// Sees to it that the table of proxies has each with its version, and says that it is behind.
fn status_tells_of_each(scene: &Scene) {
    let pods = scene.gateway().pods();
    wait_for("each proxy's version and configuration", || {
        let out = l4way(&["status", "--kube"]).out;
        let has = |name: &str| {
            let words = [name, "0.1.0", "behind"];
            out.lines().any(|line| words.iter().all(|word| line.contains(word)))
        };
        if pods.iter().all(|pod| has(&pod.name)) { Ok(()) } else { Err(out) }
    });
}
