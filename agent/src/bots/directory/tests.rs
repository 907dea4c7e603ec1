use tempfile::TempDir;

use super::*;

const CONFIG: &str = "name: b\nversion: \"1.0.0\"\ntype: realtime\nruntime: python3.11\nentrypoints:\n  bot: main.py\nconfig:\n  limit: 5\n";

struct Place {
    dir: TempDir,
    bots: Directory,
    store: Store,
    now: Instant,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, data) = (dir.path().join("bots"), dir.path().join("data"));
        fs::create_dir_all(&root).unwrap();
        let address = crate::store::Address::Directory(data.join("store"));
        let store = Store::open(&address, data.join("store/.the0-tmp")).unwrap();
        let bots = Directory::new(root, data);
        let now = Instant::now();
        Self {
            dir,
            bots,
            store,
            now,
        }
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.dir.path().join("bots").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn list(&mut self) -> Listing {
        self.bots.list(&self.store, self.now).unwrap()
    }

    /// A listing after everything has stood still.
    fn settled(&mut self) -> Listing {
        self.list();
        self.now += Duration::from_secs(1);
        self.list()
    }
}

fn why(listing: &Listing, folder: &str) -> String {
    match &listing.bots[&id_of(folder)].offer {
        Offer::Unusable(why) => why.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn folders_with_a_definition_are_bots_and_their_code_is_in_the_store() {
    let mut place = Place::new();
    place.write("one/bot-config.yaml", CONFIG);
    place.write("one/main.py", "1");
    place.write(
        "two/bot-config.json",
        &serde_json::to_string(&serde_norway::from_str::<Value>(CONFIG).unwrap()).unwrap(),
    );
    place.write("two/main.py", "2");
    place.write("none/readme.md", "");
    place.write("bot-config.yml", CONFIG);
    place.write("main.py", "");
    let listing = place.list();
    assert_eq!(listing.bots.len(), 3);
    for name in ["one", "two", "bots"] {
        let bot = listing.bot(&id_of(name)).unwrap();
        assert!(place.store.has(&bot.code).unwrap(), "{name}");
        let key = bot.code.as_str();
        assert!(
            key.starts_with("dev/b/1.0.0-") && key.len() == "dev/b/1.0.0-".len() + 12,
            "{key}"
        );
        assert_eq!(bot.config.reveal(), "{\"limit\":5}");
    }
}

#[test]
fn a_bad_definition_is_told_with_file_field_and_remedy_and_spoils_only_itself() {
    let mut place = Place::new();
    place.write("good/bot-config.yaml", CONFIG);
    place.write("good/main.py", "");
    place.write(
        "runtime/bot-config.yaml",
        &CONFIG.replace("python3.11", "python2"),
    );
    place.write("yaml/bot-config.yaml", "name: [hunter2");
    place.write("entry/bot-config.yaml", CONFIG);
    place.write("link/bot-config.yaml", CONFIG);
    place.write("link/main.py", "");
    std::os::unix::fs::symlink("/etc", place.dir.path().join("bots/link/out")).unwrap();
    let listing = place.list();
    assert!(listing.bot(&id_of("good")).is_some());
    let rows = [
        ("runtime", "bot-config.yaml: runtime: unknown runtime"),
        ("yaml", "is not usable YAML at line"),
        ("entry", "entrypoints.bot: there is no file"),
        ("link", "outside of the bot's folder"),
    ];
    for (folder, part) in rows {
        let text = why(&listing, folder);
        assert!(
            text.contains(part) && text.contains(folder) && !text.contains("hunter2"),
            "{text}"
        );
    }
}

#[test]
fn a_folder_that_cannot_be_read_is_an_error_and_not_an_empty_listing() {
    let mut place = Place::new();
    fs::remove_dir(place.dir.path().join("bots")).unwrap();
    let error = place
        .bots
        .list(&place.store, place.now)
        .unwrap_err()
        .to_string();
    assert!(error.contains("bots"), "{error}");
}

#[test]
fn an_edit_counts_when_it_has_stood_still_and_only_if_the_content_changed() {
    let mut place = Place::new();
    place.write("one/bot-config.yaml", CONFIG);
    place.write("one/main.py", "1");
    let id = id_of("one");
    let code = |listing: &Listing| listing.bot(&id).unwrap().code.clone();
    let first = code(&place.settled());
    place.write("one/main.py", "1");
    let touched = place.list();
    assert_eq!((code(&touched), touched.again), (first.clone(), None));
    place.write("one/main.py", "2");
    let moving = place.list();
    assert_eq!((code(&moving), moving.again), (first.clone(), Some(QUIET)));
    let second = code(&place.settled());
    assert_ne!(first, second);
    place.write("one/bot-config.yaml", "");
    assert_eq!(code(&place.list()), second);
    assert!(why(&place.settled(), "one").contains("mapping"));
    place.write("one/bot-config.yaml", CONFIG);
    assert_eq!(code(&place.settled()), second);
}

#[test]
fn a_bundle_that_was_lost_is_put_again() {
    let mut place = Place::new();
    place.write("one/bot-config.yaml", CONFIG);
    place.write("one/main.py", "1");
    let code = place.settled().bot(&id_of("one")).unwrap().code.clone();
    place.store.remove(&code).unwrap();
    place.list();
    assert!(place.store.has(&code).unwrap());
}

#[test]
fn a_folder_named_like_the_one_around_it_is_refused_with_both_paths() {
    let mut place = Place::new();
    for folder in ["", "bots/"] {
        place.write(&format!("{folder}bot-config.yaml"), CONFIG);
        place.write(&format!("{folder}main.py"), "");
    }
    let listing = place.list();
    assert_eq!(listing.bots.len(), 1);
    assert!(
        listing.remarks[0].contains("bots/bots and"),
        "{}",
        listing.remarks[0]
    );
}
