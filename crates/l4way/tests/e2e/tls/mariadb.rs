//! MariaDB, whose server speaks first.

use super::{
    super::l4way::own_address,
    authority::Authority,
    daemon::{Daemon, Said, User, client},
    setting::Setting,
};

fn server() -> Daemon {
    let user = User::named("mysql");
    let folder = tempfile::tempdir().expect("a temporary folder");
    user.own(folder.path());
    let data = format!("--datadir={}", folder.path().join("data").display());
    let mut install = user.command("mariadb-install-db");
    let made = install.args(["--no-defaults", &data, "--skip-test-db"]).output();
    let made = made.expect("`make setup` installs mariadb-server");
    assert!(made.status.success(), "{made:?}");
    let ip = own_address();
    let mut command = user.command("/usr/sbin/mariadbd");
    command.args(["--no-defaults", &data, "--skip-grant-tables", "--port=3306"]);
    command.arg(format!("--bind-address={ip}"));
    command.arg(format!("--socket={}", folder.path().join("socket").display()));
    command.arg(format!("--pid-file={}", folder.path().join("pid").display()));
    Daemon::start(folder, (ip, 3306).into(), &mut command)
}

fn mariadb(ip: &str, port: &str, more: &[&str]) -> Said {
    let args = ["--no-defaults", "-h", ip, "-P", port, "-u", "root", "-N", "-e", "select 6 * 7"];
    client("mariadb", &[&args[..], more].concat(), b"")
}

#[test]
fn mariadb_works_by_tcp_and_is_told_so_where_tls_is_spoken() {
    let authority = Authority::new("ours");
    let server = server();
    let running = Setting::default()
        .secret("a", &authority.sign("a.test"))
        .listener("name: tcp, protocol: TCP, port: 3306")
        .route("TCPRoute", "tcp", "", server.address)
        .listener(
            "name: tls, protocol: TLS, port: 3307, \
             tls: {certificateRefs: [{name: a}], options: {l4way.dev/handshake-timeout: 1s}}",
        )
        .route("TCPRoute", "tls", "", server.address)
        .run(&[]);
    assert_eq!(mariadb(&running.ip, "3306", &[]).good(), "42");
    for more in [&[][..], &["--ssl"]] {
        let said = mariadb(&running.ip, "3307", more).bad();
        assert!(said.contains("MySQL and MariaDB have the server begin"), "{said}");
    }
    running.counts("l4way_tls_handshakes_failed_total", &["reason=\"silent_as_mysql\""], 2);
}
