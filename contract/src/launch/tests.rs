use super::*;

fn variables(extra: &[(&str, &str)]) -> Variables {
    let base = [
        ("BOT_ID", "b1"),
        ("RUNTIME", "python3.11"),
        ("ENTRYPOINT", "main.py"),
    ];
    base.iter()
        .chain(extra)
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

fn parse(extra: &[(&str, &str)]) -> Result<Launch, LaunchError> {
    Launch::parse(variables(extra))
}

#[test]
fn a_missing_variable_is_named_and_exits_1() {
    for name in ["BOT_ID", "RUNTIME", "ENTRYPOINT"] {
        let error = parse(&[(name, "")]).unwrap_err();
        assert!(error.to_string().starts_with(name));
        assert_eq!(error.exit_code(), 1);
    }
}

#[test]
fn a_bad_value_names_its_variable_and_the_remedy_but_never_a_configuration() {
    let rows = [
        ("RUNTIME", "python2", "use one of"),
        ("BOT_CONFIG", "{hunter2", "give a JSON object"),
        ("BOT_CONFIG", "[\"hunter2\"]", "not an object"),
        ("BOT_TYPE", "event", "use realtime or scheduled"),
        ("ENTRYPOINT", "../x", "relative"),
        ("CODE_FILE", "../x", ".."),
        ("THE0_GRACE", "soon", "30s"),
        ("QUERY_PATH", "/a\0b", "leave it out"),
        ("THE0_CONFINE", "maybe", "full, signals or off"),
    ];
    for (name, value, remedy) in rows {
        let error = parse(&[(name, value)]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains(remedy) && !text.contains("hunter2"),
            "{text}"
        );
        assert_eq!(error.exit_code(), exit::BAD_LAUNCH);
    }
}

#[test]
fn a_configuration_over_the_kernels_limit_is_refused_with_its_size() {
    let fits = |padding: usize| {
        parse(&[(
            "BOT_CONFIG",
            &format!("{{\"a\":\"{}\"}}", "x".repeat(padding)),
        )])
    };
    let most = LONGEST_VARIABLE - "BOT_CONFIG=".len() - 1 - "{\"a\":\"\"}".len();
    assert!(fits(most).is_ok());
    let text = fits(most + 1).unwrap_err().to_string();
    assert!(text.contains("131073") && text.contains("131072"), "{text}");
}

#[test]
fn the_bot_sees_the_contract_and_what_is_harmless() {
    let launch = parse(&[
        ("PATH", "/usr/bin"),
        ("MINIO_SECRET_KEY", "k"),
        ("NATS_URL", "n"),
        ("THE0_STORE", "/s"),
        ("SOMETHING", "x"),
        ("PYTHONPATH", "/opt/lib"),
        ("BOT_TYPE", "realtime"),
    ])
    .unwrap();
    let env = launch.program_environment(Program::Bot);
    let names: Vec<_> = env.keys().map(String::as_str).collect();
    let expected = [
        "BOT_CONFIG",
        "BOT_ID",
        "BOT_TYPE",
        "CODE_MOUNT_DIR",
        "ENTRYPOINT_TYPE",
        "PATH",
        "PYTHONPATH",
        "SCRIPT_PATH",
        "STATE_DIR",
    ];
    assert_eq!(names, expected);
    assert_eq!(env["PYTHONPATH"], "/bot/vendor:/bot:/opt/lib");
    assert_eq!(env["CODE_MOUNT_DIR"], "bot");
    assert_eq!(env["STATE_DIR"], "/state/.the0-state");
}

#[test]
fn who_answers_live_has_no_question_and_python_sees_that_by_an_empty_one() {
    let seen = |pairs: &[(&str, &str)]| {
        let env = parse(pairs).unwrap().program_environment(Program::Query);
        assert_eq!(env["BOT_TYPE"], "realtime");
        env.get("QUERY_PATH").cloned()
    };
    assert_eq!(seen(&[]).as_deref(), Some(""));
    assert_eq!(seen(&[("RUNTIME", "rust-stable")]), None);
    assert_eq!(seen(&[("RUNTIME", "nodejs20")]), None);
}

#[test]
fn keys_leave_by_their_own_way_only() {
    let launch = parse(&[
        ("MINIO_ACCESS_KEY", "a"),
        ("MINIO_SECRET_KEY", "s"),
        ("MINIO_ENDPOINT", "h:1"),
    ])
    .unwrap();
    assert_eq!(launch.keys().len(), 2);
    let passed = parse(&[
        ("MINIO_SECRET_KEY", "s"),
        ("THE0_PASS_ENV", "MINIO_SECRET_KEY"),
    ])
    .unwrap();
    for env in [
        launch.sync_environment(),
        launch.query_environment(),
        passed.program_environment(Program::Bot),
    ] {
        assert!(vars::KEYS.iter().all(|key| !env.contains_key(*key)));
    }
    assert!(launch.sync_environment().contains_key("MINIO_ENDPOINT"));
    assert!(!launch.query_environment().contains_key("MINIO_ENDPOINT"));
}

#[test]
fn older_names_reach_the_programs_by_the_present_ones() {
    let launch = parse(&[
        ("MINIO_ACCESS_KEY_ID", "a"),
        ("MINIO_SECRET_ACCESS_KEY", "s"),
        ("MINIO_BOTS_BUCKET", "bots"),
    ])
    .unwrap();
    let keys = launch.keys();
    let names: Vec<_> = keys.keys().map(String::as_str).collect();
    assert_eq!(names, ["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"]);
    assert_eq!(launch.sync_environment()["MINIO_CODE_BUCKET"], "bots");
}

#[test]
fn what_query_is_given_is_a_launch_again() {
    let launch = parse(&[
        ("QUERY_ENTRYPOINT", "./q.py"),
        ("THE0_QUERY_LISTEN", "127.0.0.1:0"),
        ("THE0_QUERY_TIMEOUT", "5s"),
    ])
    .unwrap();
    let again = Launch::parse(launch.query_environment()).unwrap();
    assert_eq!(again.query_timeout, Duration::from_secs(5));
    assert_eq!(
        again.command(Program::Query),
        Some(vec!["python3".into(), "/bot/q.py".into()])
    );
    assert_eq!(again.query_listen.port(), 0);
}

#[test]
fn a_launch_document_does_not_print_its_values() {
    let line: Line =
        serde_json::from_str(r#"{"type":"launch","v":1,"env":{"BOT_CONFIG":"hunter2"}}"#).unwrap();
    assert!(!format!("{line:?}").contains("hunter2"));
}

#[test]
fn a_question_is_in_the_environment_of_the_query_program_alone() {
    let launch = parse(&[
        ("QUERY_ENTRYPOINT", "query.py"),
        ("BOT_TYPE", "scheduled"),
        ("QUERY_PATH", "/trades"),
        (
            "QUERY_PARAMS",
            r#"{"symbol":"BTC/USD","limit":5,"cursor":null,"a=b":1,"nul":"\u0000"}"#,
        ),
        ("QUERY_RESULT_KEY", "b1/1-ab/result.json"),
    ])
    .unwrap();
    let env = launch.program_environment(Program::Query);
    let asked: Vec<_> = env
        .iter()
        .filter(|(name, _)| name.starts_with("QUERY_"))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        asked,
        [
            (
                "QUERY_PARAMS",
                launch.question.as_ref().unwrap().params.to_body().as_str()
            ),
            ("QUERY_PARAM_limit", "5"),
            ("QUERY_PARAM_symbol", "BTC/USD"),
            ("QUERY_PATH", "/trades"),
        ]
    );
    assert_eq!(env["BOT_TYPE"], "scheduled");
    let of_the_bot = launch.program_environment(Program::Bot);
    assert!(!of_the_bot.keys().any(|name| name.starts_with("QUERY_")));
    assert_eq!(
        launch.question.unwrap().result_key.unwrap().as_str(),
        "b1/1-ab/result.json"
    );
    for params in ["[1]", "{hunter2", "5"] {
        let error = parse(&[("QUERY_PATH", "/x"), ("QUERY_PARAMS", params)]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("QUERY_PARAMS") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
