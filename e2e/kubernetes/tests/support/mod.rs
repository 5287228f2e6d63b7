//! What the tests are made of.

mod client;
mod command;
mod gateway;
mod kubectl;
mod l4way;
mod manifests;
mod namespace;
mod wait;

pub(crate) use self::{
    client::{Ask, ask, ask_udp, nc},
    command::shell,
    gateway::{CONTROLLER, Gateway, Pod, wait_for_condition},
    kubectl::{
        api_version, apply, apply_server_side, exists, get, kubectl, try_kubectl, would_take,
    },
    l4way::{check, l4way, problems_of},
    manifests::{
        echo, gateway, parameters, project, route, scaled_to_0, server, server_saying_who,
    },
    namespace::{Namespace, explain},
    wait::{PATIENCE, say, wait_for},
};
