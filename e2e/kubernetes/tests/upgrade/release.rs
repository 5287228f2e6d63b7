use std::fs;

use super::{
    installation::{Version, uninstall},
    scene::Scene,
};
use crate::support::{project, wait_for};

/// Whether the release's proxies can't tell which version of a configuration they are given, and so are
/// given none by this l4way's controller. So it is with the one commit before there were versions: delete
/// this, and what is done if it is true, when e2e/upgrade/RELEASE names another.
fn knows_no_versions() -> bool {
    let release = fs::read_to_string(project("e2e/upgrade/RELEASE")).expect("e2e/upgrade/RELEASE");
    release.starts_with("d539330")
}

#[test]
fn proxies_and_controllers_are_upgraded_in_either_order_and_back() {
    let (release, this) = (Version::release(), Version::this());
    uninstall();
    release.install();
    let mut scene = Scene::set("upgrade");
    scene.rolled(&release.image);

    scene.during("proxies to this version, under the release's controller", |scene| {
        scene.pin(Some(&this.image));
        scene.rolled(&this.image);
        scene.is_served_by(&this.image);
    });
    scene.during("then the controller to this version", |scene| {
        scene.keeps_its_pods(|scene| {
            this.install();
            scene.is_served_by(&this.image);
        });
        scene.bindings_have_hashes();
    });
    scene.during("the controller back to the release", |scene| {
        release.install();
        scene.is_served_by(&this.image);
    });
    scene.during("then the proxies back to the release", |scene| {
        scene.pin(None);
        scene.rolled(&release.image);
        scene.is_served_by(&release.image);
    });
    scene.during("the controller to this version, above the release's proxies", |scene| {
        scene.pin(Some(&release.image));
        this.install();
        if knows_no_versions() {
            scene.change();
            is_told_of(scene);
            scene.serves_what_was_before();
        } else {
            scene.keeps_its_pods(|scene| scene.is_served_by(&release.image));
        }
        scene.bindings_have_hashes();
    });
    scene.during("then the proxies to this version", |scene| {
        scene.pin(None);
        scene.rolled(&this.image);
        scene.is_served_by(&this.image);
    });
}

/// Waits until the Gateway's status says that a proxy is too old for its configuration.
fn is_told_of(scene: &Scene) {
    wait_for("the Gateway's status to tell of proxies from before 0.1.0", || {
        let gateway = scene.gateway().object();
        let pods = scene.gateway().pods();
        let conditions = gateway["status"]["conditions"].as_array().into_iter().flatten();
        let told = conditions.filter(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["type"] == "Programmed"
                && condition["status"] == "False"
                && condition["observedGeneration"] == gateway["metadata"]["generation"]
                && message.contains("before 0.1.0")
                && pods.iter().any(|pod| message.contains(&pod.name))
        });
        if told.count() == 1 { Ok(()) } else { Err(format!("{:#}", gateway["status"])) }
    });
}
