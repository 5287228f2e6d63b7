//! `l4way status --kube` and `l4way check --kube`.

use crate::support::{
    Gateway, Namespace, echo, gateway, l4way, problems_of, route, try_kubectl, wait_for,
};

#[test]
fn status_prints_the_tables_of_a_standalone_l4way() {
    let namespace = Namespace::new("overview");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000), ("udp", "UDP", 9001)], "")
            + &echo("app", "TCP")
            + &route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])),
    );
    namespace.available(&["app"]);
    let ip = Gateway::new(namespace.name(), "gw").programmed().to_string();
    let ns = namespace.name();
    // Other tests' objects widen the columns.
    let rows = [
        format!("{ns}/gw l4way {ip} True True"),
        format!("{ns}/gw/tcp TCP 9000 1 True True True"),
        format!("{ns}/gw/udp UDP 9001 0 True True True"),
        format!("TCPRoute {ns}/route {ns}/gw/tcp True True"),
    ];
    let heads = [
        "GATEWAY CLASS ADDRESS ACCEPTED PROGRAMMED",
        "LISTENER PROTOCOL PORT ROUTES ACCEPTED RESOLVEDREFS PROGRAMMED",
        "ROUTE PARENT ACCEPTED RESOLVEDREFS",
    ];
    wait_for("the tables", || {
        let out = l4way(&["status", "--kube"]).out;
        let lines: Vec<_> =
            out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let all = rows.iter().map(String::as_str).chain(heads);
        let missing: Vec<_> = all.filter(|row| !lines.iter().any(|line| line == row)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("no {missing:?} in\n{out}")) }
    });
    for (kind, name) in [("Gateway", "gw"), ("TCPRoute", "route")] {
        assert_eq!(problems_of(kind, ns, name), Vec::<String>::new());
    }
}

#[test]
fn a_proxy_tells_what_it_serves_to_who_may_enter_its_pod() {
    let namespace = Namespace::new("own-status");
    let gateway = namespace.serving("");
    let deployment = format!("deployment/{}", gateway.base());
    let row = format!("{}/gw", namespace.name());
    wait_for("its tables", || {
        let args = ["--namespace", namespace.name(), "exec", &deployment, "--", "/l4way", "status"];
        // It fails where something is wrong, and prints the tables all the same.
        let (Ok(out) | Err(out)) = try_kubectl(&args);
        if out.contains(&row) { Ok(()) } else { Err(out) }
    });
}
