//! Manifests as the tests need them, and folders to keep them in.

use std::{fs, net::SocketAddr, path::Path};

use tempfile::TempDir;

use super::l4way::project;

/// A folder of manifests that goes when it is dropped.
pub(crate) struct Manifests(TempDir);

impl Manifests {
    /// An empty folder.
    pub(crate) fn empty() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    /// A folder with these documents in a file.
    pub(crate) fn of(documents: &[String]) -> Self {
        let manifests = Self::empty();
        manifests.write_all(documents);
        manifests
    }

    /// A copy of one of the project's folders.
    pub(crate) fn copy_of(folder: &str) -> Self {
        let manifests = Self::empty();
        manifests.add_all(folder);
        manifests
    }

    /// Copies all files of one of the project's folders into this one.
    pub(crate) fn add_all(&self, folder: &str) {
        for entry in fs::read_dir(project(folder)).expect("the project's folder") {
            let path = entry.expect("an entry").path();
            let to = self.path().join(path.file_name().expect("a file's name"));
            fs::copy(&path, to).expect("a copy");
        }
    }

    /// Writes the file that [`Self::of`] made anew.
    pub(crate) fn write_all(&self, documents: &[String]) {
        self.write("all.yaml", &documents.join("---\n"));
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a manifest written");
    }

    /// Removes a file.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).expect("a manifest removed");
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A Gateway `gw` with these listeners: name, protocol, port.
pub(crate) fn gateway(listeners: &[(&str, &str, u16)]) -> String {
    gateway_on(&[], listeners)
}

/// A Gateway `gw` on these addresses.
pub(crate) fn gateway_on(addresses: &[&str], listeners: &[(&str, &str, u16)]) -> String {
    let mut text = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n\
                    metadata: {name: gw}\nspec:\n  gatewayClassName: l4way\n  listeners:\n"
        .to_owned();
    for (name, protocol, port) in listeners {
        text += &format!("  - {{name: {name}, protocol: {protocol}, port: {port}}}\n");
    }
    if !addresses.is_empty() {
        text += "  addresses:\n";
    }
    for address in addresses {
        text += &format!("  - {{value: '{address}'}}\n");
    }
    text
}

/// A route of the Gateway `gw` to Backends, each with its weight.
pub(crate) fn route(kind: &str, backends: &[(&str, u32)]) -> String {
    let mut text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: route}}\n\
         spec:\n  parentRefs: [{{name: gw}}]\n  rules:\n  - backendRefs:\n"
    );
    for (name, weight) in backends {
        text +=
            &format!("    - {{group: l4way.dev, kind: Backend, name: {name}, weight: {weight}}}\n");
    }
    text
}

/// A Backend with one endpoint.
pub(crate) fn backend(name: &str, address: SocketAddr) -> String {
    backend_of(name, &[address])
}

/// A Backend with these endpoints.
pub(crate) fn backend_of(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut text = format!(
        "apiVersion: l4way.dev/v1alpha1\nkind: Backend\nmetadata: {{name: {name}}}\n\
         spec:\n  endpoints:\n"
    );
    for endpoint in endpoints {
        let (ip, port) = (endpoint.ip(), endpoint.port());
        text += &format!("  - ip: {{address: '{ip}', port: {port}}}\n");
    }
    text
}
