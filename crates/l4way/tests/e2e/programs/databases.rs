//! PostgreSQL, Redis and MariaDB.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::support::*;
use crate::{
    l4way::{L4way, own_address},
    manifests::{Manifests, backend},
};

/// The folder of PostgreSQL's server programs: Debian has one for each version.
fn postgres_bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL: run make setup");
    let mut versions: Vec<_> = versions.filter_map(|entry| Some(entry.ok()?.path())).collect();
    versions.sort();
    versions.pop().expect("a version of PostgreSQL: run make setup").join("bin")
}

/// A command, run as a user who isn't root: database servers insist on that.
fn as_user(user: &str, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", user, "--"]).arg(program.as_ref());
    command
}

/// A server of PostgreSQL with a certificate of its own for `name`, which it also answers with.
fn postgres(pki: &Pki, name: &str) -> Server {
    pki.sign(name);
    Server::start(|port, folder| {
        let bin = postgres_bin();
        let data = folder.join("data");
        let status = as_user("postgres", bin.join("initdb"))
            .args(["-U", "test", "-A", "trust", "-N", "-D"])
            .arg(&data)
            .output()
            .expect("initdb");
        assert!(status.status.success(), "{}", printed(&status));
        for kind in ["crt", "key"] {
            let to = data.join(format!("server.{kind}"));
            fs::copy(pki.file(&format!("{name}.{kind}")), &to).expect("a copy");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("rights");
            let owned = Command::new("chown").arg("postgres").arg(&to).status().expect("chown");
            assert!(owned.success());
        }
        let mut command = as_user("postgres", bin.join("postgres"));
        let settings = [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", folder.display()),
            "ssl=on".to_owned(),
            format!("cluster_name={name}"),
            "fsync=off".to_owned(),
        ];
        command.arg("-D").arg(&data);
        settings.iter().for_each(|setting| drop(command.args(["-c", setting])));
        command
    })
}

fn psql(settings: &str, sql: &str) -> String {
    let settings = format!("dbname=postgres user=test connect_timeout=20 {settings}");
    printed(&run("psql", &[&settings, "-Atqc", sql], b"")).trim().to_owned()
}

#[test]
fn psql_reaches_servers_by_name_through_one_port_in_both_modes() {
    let (pki, address) = (Pki::new(), own_address());
    let servers = ["a.db.test", "b.db.test"].map(|name| postgres(&pki, name));
    let [a, b] = servers.each_ref().map(|server| server.port);
    let passthrough = "{name: through, protocol: TLS, port: 5432, hostname: '*.db.test', tls: {mode: \
                       Passthrough}}";
    let manifests = Manifests::of(&[
        gateway("", &[passthrough, &terminate("ended", 5432, "gw.test", "")]),
        pki.secret("gw.test"),
        route("TLSRoute", "a", "through", "a.db.test"),
        route("TLSRoute", "b", "through", "b.db.test"),
        route("TLSRoute", "ended", "ended", "gw.test"),
        route("TCPRoute", "any", "ended", ""),
        backend("a", local(a)),
        backend("b", local(b)),
        backend("ended", local(b)),
        backend("any", local(a)),
    ]);
    let _l4way = L4way::run(&manifests, address, &[]);
    let ca = pki.path("ca.crt");
    let ask = |host: &str, mode: &str| {
        let to = format!("hostaddr={address} port=5432 host={host}");
        let settings = format!("{to} sslmode={mode} sslrootcert={ca}");
        psql(
            &settings,
            "select current_setting('cluster_name'), ssl from pg_stat_ssl where pid = \
                         pg_backend_pid()",
        )
    };
    for mode in ["require", "verify-full"] {
        assert_eq!(ask("a.db.test", mode), "a.db.test|t");
        assert_eq!(ask("b.db.test", mode), "b.db.test|t");
        assert_eq!(ask("gw.test", mode), "b.db.test|f", "the server sees no TLS");
    }
    // By address, so without a name.
    assert_eq!(ask(&address.to_string(), "require"), "a.db.test|f");
    assert!(ask("gw.test", "disable").contains("sslmode=require"));
    assert!(
        ask("c.db.test", "require").contains("unrecognized name"),
        "{}",
        ask("c.db.test", "require")
    );

    // The same bytes through it and around it.
    let sql = "select string_agg(md5(i::text), ',') from generate_series(1, 300000) i";
    let direct = psql(&format!("hostaddr=127.0.0.1 port={a} sslmode=disable"), sql);
    assert!(direct.len() > 9_000_000);
    for host in ["a.db.test", "gw.test"] {
        let through = format!("hostaddr={address} port=5432 host={host} sslmode=require");
        assert!(psql(&through, sql) == direct, "{host}: not the same");
    }
}

/// A client with a libpq of 17 or later, which Debian has none of: PyPI's psycopg carries one.
fn psycopg() -> PathBuf {
    let cache = std::env::var_os("CACHE").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let venv = cache.join("psycopg");
    let python = venv.join("bin/python");
    let has = |python: &Path| {
        let output = Command::new(python).args(["-c", "import psycopg"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !has(&python) {
        let made =
            Command::new("python3").args(["-m", "venv"]).arg(&venv).output().expect("python3");
        assert!(made.status.success(), "{}", printed(&made));
        let pip = Command::new(&python)
            .args(["-m", "pip", "install", "-q", "psycopg[binary]==3.3.2"])
            .output()
            .expect("pip");
        assert!(pip.status.success(), "{}", printed(&pip));
    }
    python
}

#[test]
fn a_client_that_begins_with_tls_at_once_gets_to_postgresql() {
    let (pki, address) = (Pki::new(), own_address());
    let server = postgres(&pki, "db.test");
    let manifests = Manifests::of(&[
        gateway("", &[&terminate("tls", 5432, "gw.test", "")]),
        pki.secret("gw.test"),
        route("TLSRoute", "db", "tls", "gw.test"),
        backend("db", local(server.port)),
    ]);
    let _l4way = L4way::run(&manifests, address, &[]);
    let program = format!(
        "import psycopg\nassert psycopg.pq.version() >= 170000\nc = psycopg.connect('host=gw.test \
         hostaddr={address} port=5432 user=test dbname=postgres sslmode=verify-full sslrootcert={} \
         sslnegotiation=direct')\nprint(c.execute('select 6 * 7').fetchone()[0])",
        pki.path("ca.crt")
    );
    let output = run_with(Command::new(psycopg()).args(["-c", &program]), b"");
    assert_eq!(printed(&output), "42\n");
}

#[test]
fn redis_speaks_tls_through_in_front_and_behind() {
    let (pki, address) = (Pki::new(), own_address());
    for name in ["redis.test", "other.test"] {
        pki.sign(name);
    }
    let redis = |tls: bool| {
        Server::start(|port, folder| {
            let mut command = Command::new("redis-server");
            command.args(["--bind", "127.0.0.1", "--save", "", "--dir"]).arg(folder);
            let port = port.to_string();
            match tls {
                false => command.args(["--port", &port]),
                true => {
                    command.args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", "no"])
                }
            };
            if tls {
                for (option, file) in [
                    ("--tls-cert-file", "redis.test.crt"),
                    ("--tls-key-file", "redis.test.key"),
                    ("--tls-ca-cert-file", "ca.crt"),
                ] {
                    command.args([option, &pki.path(file)]);
                }
            }
            command
        })
    };
    let (plain, secure) = (redis(false), redis(true));
    let policy = |name: &str, hostname: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: \
             {name}}}\nspec:\n  targetRefs: [{{group: l4way.dev, kind: Backend, name: {name}}}]\n  \
             validation: {{caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}], hostname: \
             {hostname}}}\n"
        )
    };
    let through = "{name: through, protocol: TLS, port: 6380, hostname: redis.test, tls: {mode: \
                   Passthrough}}";
    let manifests = Manifests::of(&[
        gateway(
            "",
            &[
                through,
                &terminate("ended", 6380, "gw.test", ""),
                "{name: behind, protocol: TCP, port: 6381}",
                "{name: wrong, protocol: TCP, port: 6382}",
            ],
        ),
        pki.secret("gw.test"),
        pki.config_map(),
        route("TLSRoute", "through", "through", "redis.test"),
        route("TLSRoute", "ended", "ended", "gw.test"),
        route("TCPRoute", "behind", "behind", ""),
        route("TCPRoute", "wrong", "wrong", ""),
        backend("through", local(secure.port)),
        backend("ended", local(plain.port)),
        backend("behind", local(secure.port)),
        backend("wrong", local(secure.port)),
        policy("behind", "redis.test"),
        policy("wrong", "other.test"),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    let (host, ca) = (address.to_string(), pki.path("ca.crt"));
    let cli = |args: &[&str]| printed(&run("redis-cli", &[&["-h", &host][..], args].concat(), b""));
    for name in ["redis.test", "gw.test"] {
        let tls = ["-p", "6380", "--tls", "--cacert", &ca, "--sni", name];
        assert_eq!(cli(&[&tls[..], &["set", "key", name]].concat()), "OK\n");
        assert_eq!(cli(&[&tls[..], &["get", "key"]].concat()), format!("{name}\n"));
    }
    assert_eq!(cli(&["-p", "6381", "get", "key"]), "redis.test\n", "the secure one, in TLS");
    assert!(!cli(&["-p", "6382", "get", "key"]).contains("redis.test"));
    let failed = l4way.metric("l4way_sessions_ended_total", &["reason=\"upstream_tls_failed\""]);
    assert!(failed >= 1.0, "{failed}");
}

#[test]
fn mariadb_passes_a_tcp_listener_and_is_told_so_at_a_tls_one() {
    let (pki, address) = (Pki::new(), own_address());
    let server = Server::start(|port, folder| {
        let data = folder.join("data");
        let made = Command::new("mariadb-install-db")
            .args(["--user=mysql", "--auth-root-authentication-method=normal"])
            .arg(format!("--datadir={}", data.display()))
            .output()
            .expect("mariadb-install-db: run make setup");
        assert!(made.status.success(), "{}", printed(&made));
        let mut command = Command::new("/usr/sbin/mariadbd");
        command.args(["--no-defaults", "--user=mysql", "--bind-address=127.0.0.1"]);
        command.args([format!("--port={port}"), format!("--datadir={}", data.display())]);
        command.arg(format!("--socket={}", folder.join("socket").display()));
        command.arg(format!("--pid-file={}", folder.join("pid").display()));
        command
    });
    let impatient = terminate("tls", 3307, "gw.test", "l4way.dev/handshake-timeout: 1s");
    let manifests = Manifests::of(&[
        gateway("", &["{name: tcp, protocol: TCP, port: 3306}", &impatient]),
        pki.secret("gw.test"),
        route("TCPRoute", "db", "tcp", ""),
        route("TLSRoute", "db", "tls", "gw.test"),
        backend("db", local(server.port)),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    let ask = |port: &str| {
        let host = address.to_string();
        let args = ["--no-defaults", "-h", &host, "-P", port, "-u", "root", "-Ne", "select 6 * 7"];
        printed(&run("mariadb", &args, b""))
    };
    let answer = ask("3306");
    assert!(answer.contains("42") || answer.contains("Access denied"), "{answer}");
    let told = ask("3307");
    assert!(told.contains("MySQL and MariaDB have the server begin"), "{told}");
    let reason = ["reason=\"silent_as_mysql\""];
    assert_eq!(l4way.metric("l4way_tls_handshakes_failed_total", &reason), 1.0);
}
