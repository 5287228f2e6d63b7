//! The port of a pod that is the proxy's own.

use l4way_model::Transport;

use super::ListenerNode;
use crate::{POD_ADMIN_PORT, conditions};

/// Refuses the listeners that want the port on which proxies in pods serve their metrics and health: the
/// Gateway's Service would lead its clients there.
pub(crate) fn refuse<'a>(listeners: impl Iterator<Item = &'a mut ListenerNode>) {
    let wants = |listener: &ListenerNode| {
        listener.port == POD_ADMIN_PORT && listener.runs_on() == Some(Transport::Tcp)
    };
    for listener in listeners {
        if wants(listener) {
            let message = format!(
                "TCP port {POD_ADMIN_PORT} is where the Gateway's proxies serve their metrics and \
                 health; choose another port"
            );
            let outcomes = conditions::listener::port_unavailable(message);
            listener.findings.error(listener.pointer("port"), outcomes);
        }
    }
}
