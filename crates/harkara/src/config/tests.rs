//! Which layer wins, what is refused and in which words, and that the default file tells the truth.

use super::*;

/// Settings of a TOML text and variables, as `load` would read them.
fn load(toml: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect();
    let mut layers = Layers::defaults();
    layers
        .add_toml(Path::new("harkara.toml"), toml)
        .and_then(|()| layers.add_environment(&env))
        .and_then(|()| Config::read(&layers, &env))
        .map_err(|error| error.to_string())
}

fn error(toml: &str, env: &[(&str, &str)]) -> String {
    load(toml, env).expect_err("these settings are wrong")
}

#[test]
fn the_defaults() {
    insta::assert_snapshot!(Config::default().render(), @r#"
    environment = "sandbox"
    data_dir = "harkara-data"
    store = ""
    listen = "127.0.0.1:8080"
    public_url = "http://127.0.0.1:8080/"
    shutdown_seconds = 30

    [log]
    level = "info"
    format = "text"

    [api]
    connections = 10000
    body_limit_bytes = 262144
    json_depth = 64

    [delivery]
    permits = 2000
    permits_per_merchant = 256
    permits_per_endpoint = 64
    permits_per_address = 128
    inbox_events = 10000
    inbox_bytes = 67108864
    attempt_timeout_seconds = 30
    sweep_seconds = 1
    disable_after_days = 5

    [retention]
    bodies_days = 90
    events_days = 400

    [destinations]
    allow_http = false
    allow_private = []
    ports = [443, 8443]
    static_names = {  }
    ca_file = ""
    egress = []
    refuse = []
    nat64 = []

    [gateway]
    dummy = true
    dummy_pending_seconds = 5

    [dashboard]
    trusted_proxies = []
    "#);
}

#[test]
fn the_default_file_is_a_file_of_settings_that_changes_nothing() {
    assert_eq!(load(DEFAULTS, &[]), Ok(Config::default()));
}

#[test]
fn the_default_file_explains_each_setting_that_is_printed() {
    for line in Config::default()
        .render()
        .lines()
        .filter(|line| line.contains('='))
    {
        let (name, _) = line.split_once(" = ").unwrap();
        let at = DEFAULTS
            .find(&format!("\n{name} = "))
            .unwrap_or_else(|| panic!("{name}"));
        let before = DEFAULTS[..at].lines().last().unwrap();
        let explained_with_the_one_above = name == "inbox_bytes";
        assert!(
            before.starts_with("# ") || explained_with_the_one_above,
            "{name}"
        );
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let file = r#"
        environment = "production"
        data_dir = 'C:\a "b"'
        listen = "[::]:0"
        shutdown_seconds = 0
        log = { level = "debug", format = "json" }
        destinations.ca_file = "/etc/ca.pem"
        destinations.egress = ["203.0.113.7 = mumbai 1", "2001:db8::7"]
        destinations.refuse = ["198.51.100.0/24"]
        destinations.nat64 = ["64:ff9b::/96"]
    "#;
    let sandbox = r#"
        [destinations]
        allow_http = true
        allow_private = ["10.0.0.0/8", "fd00::/8"]
        static_names = { "Shop.example" = "10.0.0.7" }
        ports = [80, 443]
    "#;
    for text in [file, sandbox] {
        let printed = load(text, &[]).unwrap().render();
        assert_eq!(load(&printed, &[]).unwrap().render(), printed);
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "
        [delivery]
        permits = 100
        permits_per_endpoint = 4
    ";
    let env = [
        ("HARKARA_DELIVERY__PERMITS_PER_ENDPOINT", "2"),
        ("HOME", "elsewhere"),
    ];
    let delivery = load(file, &env).unwrap().delivery;
    assert_eq!((delivery.permits, delivery.permits_per_endpoint), (100, 2));
    assert_eq!(delivery.inbox_events, 10_000);
}

#[test]
fn lists_and_names_can_be_variables() {
    let env = [
        ("HARKARA_DESTINATIONS__PORTS", "443, 9443"),
        (
            "HARKARA_DESTINATIONS__ALLOW_PRIVATE",
            "127.0.0.0/8,fd00::/8",
        ),
        (
            "HARKARA_DESTINATIONS__STATIC_NAMES",
            "Shop.example=127.0.0.1, b.example=::1",
        ),
        ("HARKARA_DESTINATIONS__ALLOW_HTTP", "true"),
    ];
    let destinations = load("", &env).unwrap().destinations;
    assert_eq!(destinations.ports, [443, 9443]);
    assert_eq!(destinations.allow_private.len(), 2);
    assert_eq!(
        destinations.static_names["shop.example"].to_string(),
        "127.0.0.1"
    );
    assert_eq!(destinations.static_names["b.example"].to_string(), "::1");
    assert!(destinations.allow_http);
}

#[test]
fn the_port_may_come_from_the_platform() {
    let listen = |env: &[(&str, &str)]| load("", env).map(|config| config.listen.to_string());
    assert_eq!(listen(&[("PORT", "3000")]).unwrap(), "127.0.0.1:3000");
    assert_eq!(
        listen(&[("PORT", "3000"), ("HARKARA_LISTEN", "0.0.0.0:9000")]).unwrap(),
        "0.0.0.0:9000",
    );
    insta::assert_snapshot!(
        listen(&[("PORT", "http")]).unwrap_err(),
        @r#"use the port of listen = "http" from PORT: it must be a number from 0 to 65535"#
    );
}

#[test]
fn the_public_url_follows_the_address_in_use() {
    let url = |toml: &str, listening: &str| {
        load(toml, &[])
            .unwrap()
            .public_url(listening.parse().unwrap())
            .to_string()
    };
    assert_eq!(url("", "127.0.0.1:41234"), "http://127.0.0.1:41234/");
    assert_eq!(url("", "0.0.0.0:8080"), "http://localhost:8080/");
    assert_eq!(url("", "[::1]:8080"), "http://[::1]:8080/");
    let set = "public_url = 'https://pay.example.com'";
    assert_eq!(url(set, "0.0.0.0:8080"), "https://pay.example.com/");
}

#[test]
fn the_dummy_gateway_belongs_to_the_sandbox() {
    let dummy = |toml: &str| load(toml, &[]).unwrap().gateway.dummy;
    assert!(dummy("environment = 'sandbox'"));
    assert!(!dummy("environment = 'production'"));
    assert!(!dummy("gateway.dummy = false"));
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let errors = [
        error("evironment = 'production'", &[]),
        error("[delivry]\npermits = 5", &[]),
        error("[delivery]\npermit_per_endpoint = 5", &[]),
        error("delivery = 5", &[]),
        error("colour = 'blue'", &[]),
        error("[listen]\nport = 5", &[]),
        error("", &[("HARKARA_DELIVERY_PERMITS", "5")]),
        error("", &[("HARKARA_PORT_NUMBER", "5")]),
    ];
    insta::assert_snapshot!(errors.join("\n"), @"
    use evironment from harkara.toml: there is no such setting; did you mean environment?
    use delivry from harkara.toml: there is no such setting; did you mean delivery?
    use delivery.permit_per_endpoint from harkara.toml: there is no such setting; did you mean delivery.permits_per_endpoint?
    use delivery from harkara.toml: there is no such setting; delivery is a section, whose settings are delivery.…
    use colour from harkara.toml: there is no such setting; harkara.default.toml lists all there are
    use listen = { port = 5 } from harkara.toml: it must be an IP address and a port, such as 127.0.0.1:8080
    use delivery_permits from HARKARA_DELIVERY_PERMITS: there is no such setting; did you mean HARKARA_DELIVERY__PERMITS?
    use port_number from HARKARA_PORT_NUMBER: there is no such setting; harkara.default.toml lists all there are
    ");
}

#[test]
fn values_are_refused_with_the_reason() {
    let errors = [
        error("environment = 'prod'", &[]),
        error("listen = 8080", &[]),
        error("data_dir = ''", &[]),
        error("[api]\njson_depth = 1000", &[]),
        error("[delivery]\npermits = -1", &[]),
        error("", &[("HARKARA_DELIVERY__PERMITS", "many")]),
        error("[delivery]\ninbox_bytes = 2048", &[]),
        error("[retention]\nbodies_days = 0", &[]),
        error("[retention]\nevents_days = 30", &[]),
        error("[destinations]\nports = [443, 70000]", &[]),
        error("[destinations]\nports = []", &[]),
        error("[destinations]\nallow_private = ['10.0.0.0/33']", &[]),
        error(
            "",
            &[("HARKARA_DESTINATIONS__STATIC_NAMES", "shop.example")],
        ),
        error("[destinations]\nallow_http = 'yes'", &[]),
        error("[destinations]\nnat64 = ['64:ff9b::/64']", &[]),
        error("[destinations]\negress = ['203.0.113.7/32']", &[]),
        error("", &[("HARKARA_DESTINATIONS__EGRESS", "0.0.0.0=all")]),
        error("[log]\nlevel = 'loud'", &[]),
        error(
            "",
            &[("HARKARA_PUBLIC_URL", "https://me:s3cret@pay.example.com")],
        ),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    use environment = "prod" from harkara.toml: it must be "sandbox" or "production"
    use listen = 8080 from harkara.toml: it must be an IP address and a port, such as 127.0.0.1:8080
    use data_dir = "" from harkara.toml: it must be the path of a directory
    use api.json_depth = 1000 from harkara.toml: it must be a whole number from 8 to 127
    use delivery.permits = -1 from harkara.toml: it must be a whole number from 1 to 100000
    use delivery.permits = "many" from HARKARA_DELIVERY__PERMITS: it must be a whole number from 1 to 100000
    use delivery.inbox_bytes = 2048 from harkara.toml: it must hold at least one request body (262144 bytes); raise it or lower api.body_limit_bytes
    use retention.bodies_days = 0 from harkara.toml: it must be a whole number from 1 to 36500
    use retention.events_days = 30 from harkara.toml: it must not be less than retention.bodies_days, for nothing keeps a body without its event
    use destinations.ports = [443, 70000] from harkara.toml: it must be a list of ports from 1 to 65535
    use destinations.ports = [] from harkara.toml: without a port nothing can be sent; name at least 443
    use destinations.allow_private = ["10.0.0.0/33"] from harkara.toml: it must be a list of networks, such as 10.1.0.0/16 or fd00::/8
    use destinations.static_names = "shop.example" from HARKARA_DESTINATIONS__STATIC_NAMES: it must be names with an address each, such as shop.example=10.1.0.7
    use destinations.allow_http = "yes" from harkara.toml: it must be true or false
    use destinations.nat64 = ["64:ff9b::/64"] from harkara.toml: it must be a list of IPv6 prefixes of 96 bits, such as 64:ff9b::/96
    use destinations.egress = ["203.0.113.7/32"] from harkara.toml: it must be a list of addresses of this machine, each with a label if you like, such as 203.0.113.7 or 203.0.113.7=mumbai-1
    use destinations.egress = "0.0.0.0=all" from HARKARA_DESTINATIONS__EGRESS: it must be a list of addresses of this machine, each with a label if you like, such as 203.0.113.7 or 203.0.113.7=mumbai-1
    use log.level = "loud" from harkara.toml: it must be "error", "warn", "info", "debug" or "trace"
    use public_url = "https://***@pay.example.com" from HARKARA_PUBLIC_URL: it must be an http or https URL without user, password, query and fragment, such as https://pay.example.com
    "#);
}

#[test]
fn production_refuses_what_only_a_sandbox_may_do() {
    let errors = [
        "destinations.allow_http = true",
        "destinations.allow_private = ['10.0.0.0/8']",
        "destinations.static_names = { 'shop.example' = '10.0.0.7' }",
        "gateway.dummy = true",
    ]
    .map(|setting| error(setting, &[("HARKARA_ENVIRONMENT", "production")]));
    insta::assert_snapshot!(errors.join("\n"), @r#"
    use destinations.allow_http = true from harkara.toml: production sends payment data over https alone; remove the setting, or set environment = "sandbox"
    use destinations.allow_private = ["10.0.0.0/8"] from harkara.toml: in production an endpoint must not reach a private network; remove the setting, or set environment = "sandbox"
    use destinations.static_names = { "shop.example" = "10.0.0.7" } from harkara.toml: in production names are looked up, and their addresses checked, each time; remove the setting, or set environment = "sandbox"
    use gateway.dummy = true from harkara.toml: the DUMMY gateway calls payments paid that are not; remove the setting, or set environment = "sandbox"
    "#);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let missing = Config::load(Some(Path::new("no-such.toml")), std::iter::empty()).unwrap_err();
    insta::assert_snapshot!(
        missing,
        @"read the settings file no-such.toml; check the path given by --config or HARKARA_CONFIG"
    );
    let env = [(FILE_VARIABLE.to_owned(), "no-such-either.toml".to_owned())];
    let missing = Config::load(None, env.into_iter()).unwrap_err();
    insta::assert_snapshot!(
        missing,
        @"read the settings file no-such-either.toml; check the path given by --config or HARKARA_CONFIG"
    );
    insta::assert_snapshot!(
        error("listen =", &[]),
        @"read the settings file harkara.toml as TOML; correct the line shown"
    );
}

#[test]
fn a_file_is_read_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings.toml");
    std::fs::write(&path, "listen = '127.0.0.1:1'").unwrap();
    let config = Config::load(Some(&path), std::iter::empty()).unwrap();
    assert_eq!(config.listen.port(), 1);
}

/// What is used of a store in these variables, as it is shown, and as it is said when it is refused.
fn store_of(variables: &[(&str, &str)]) -> String {
    let variables = variables.iter().copied();
    let env = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match Config::load(None, env) {
        Ok(config) => format!("{:?}", config.store),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_store_is_shown_without_its_password() {
    let ours = ("HARKARA_STORE", "postgres://me:secret@db.example/pay");
    let other = (
        "DATABASE_URL",
        "postgresql://db.example/app?user=me&password=secret",
    );
    let shown = [
        store_of(&[]),
        store_of(&[ours]),
        store_of(&[other]),
        store_of(&[ours, other]),
        store_of(&[("DATABASE_URL", "mysql://me:secret@db.example/app")]),
        store_of(&[("HARKARA_STORE", "mysql://me:secret@db.example/app")]),
    ];
    insta::assert_snapshot!(shown.join("\n"), @r#"
    None
    Some(postgres://***@db.example/pay)
    Some(postgresql://db.example/app?user=me&password=***)
    Some(postgres://***@db.example/pay)
    None
    use store = "mysql://***@db.example/app" from HARKARA_STORE: it must be empty, or postgres://user:password@host/database
    "#);
}
