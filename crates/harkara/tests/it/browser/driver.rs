//! A browser that does what it is told: a headless Chromium, driven through Debian's chromedriver.
//!
//! `WebDriver` is JSON over HTTP, so this page is all the client there is. One chromedriver, on a port that
//! it picks, serves all who want a browser at the same time, and ends with the last of them. The driver
//! itself waits for what is looked for: nothing sleeps here. What is looked for is named as people see
//! it, by the words on buttons and fields.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::send;

/// How long something may take to be there.
const PATIENCE_MS: u64 = 30_000;

/// How often a page is asked for again before what it should say is missed.
const RELOADS: usize = 200;

/// Root has no sandbox, and nothing is to be asked of the network.
const FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
];

/// The key under which an answer names an element, as the standard has it.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

static DRIVER: Mutex<Weak<Driver>> = Mutex::new(Weak::new());

struct Driver {
    child: Child,
    address: String,
}

impl Driver {
    /// The one that runs, or a new one.
    fn shared() -> Arc<Self> {
        let mut shared = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = shared.upgrade() {
            return driver;
        }
        let driver = Arc::new(Self::start());
        *shared = Arc::downgrade(&driver);
        driver
    }

    fn start() -> Self {
        let mut command = Command::new("chromedriver");
        let quiet = command.arg("--port=0").stdin(Stdio::null());
        let mut child = quiet
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver is there, as `cargo xtask test` sees to it");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("it says its port before it ends");
            let line = line.unwrap();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').to_owned();
            }
        };
        // The rest of its output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!("127.0.0.1:{port}");
        Self { child, address }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether pages may run theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripts {
    On,
    Off,
}

impl Scripts {
    pub const BOTH: [Self; 2] = [Self::On, Self::Off];
}

/// How pages are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// `light` or `dark`.
    pub scheme: &'static str,
    /// Of the screen.
    pub width: u32,
}

impl Look {
    /// By day and by night, at a desk and on a phone.
    pub const ALL: [Self; 4] = [
        Self::at("light", 1280),
        Self::at("dark", 1280),
        Self::at("light", 390),
        Self::at("dark", 390),
    ];

    pub const fn at(scheme: &'static str, width: u32) -> Self {
        Self { scheme, width }
    }

    pub fn is_phone(self) -> bool {
        self.width < 600
    }
}

/// A browser of its own: nobody is signed in, nothing is remembered. Closed when dropped.
pub struct Browser {
    session: String,
    driver: Arc<Driver>,
    _profile: TempDir,
}

impl Browser {
    pub async fn open(scripts: Scripts) -> Self {
        let driver = Driver::shared();
        let profile = tempfile::tempdir().unwrap();
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        // What the browser's own settings page writes: 1 lets them run, 2 does not.
        let javascript = match scripts {
            Scripts::On => 1,
            Scripts::Off => 2,
        };
        let wanted = json!({
            "timeouts": { "implicit": PATIENCE_MS, "script": PATIENCE_MS },
            "goog:chromeOptions": {
                "args": flags,
                "prefs": { "profile.managed_default_content_settings.javascript": javascript },
            },
        });
        let body = json!({ "capabilities": { "alwaysMatch": wanted } });
        let opened = ask(&driver.address, Method::POST, "/session", body).await;
        let opened = opened.unwrap_or_else(|why| panic!("Chromium does not start: {why}"));
        Self {
            session: format!("/session/{}", opened["sessionId"].as_str().unwrap()),
            driver,
            _profile: profile,
        }
    }

    /// Opens an address, and waits until the page is loaded.
    pub async fn go(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// Where it is.
    pub async fn url(&self) -> String {
        let url = self.get("/url").await;
        url.as_str().unwrap().to_owned()
    }

    /// Asks for the same page once more.
    pub async fn reload(&self) {
        self.post("/refresh", json!({})).await;
    }

    /// Asks for the same page again until an `XPath` leads somewhere, as people without scripts do.
    pub async fn reload_until(&self, path: &str) {
        let count = format!(
            "return document.evaluate({}, document).booleanValue",
            json!(format!("boolean({path})"))
        );
        for _ in 0..RELOADS {
            if self.run(&count).await == true {
                return;
            }
            self.reload().await;
        }
        self.find(path).await;
    }

    /// Presses a button, follows a link or opens what is folded, by its words.
    pub async fn press(&self, words: &str) {
        let path = format!(
            "//*[self::button or self::a or self::summary][normalize-space()={}]",
            quoted(words)
        );
        self.click(&path).await;
    }

    /// Clicks what an `XPath` leads to.
    pub async fn click(&self, path: &str) {
        let element = self.find(path).await;
        self.post(&format!("/element/{element}/click"), json!({}))
            .await;
    }

    /// Types into a field, instead of what is in it.
    pub async fn fill(&self, label: &str, text: &str) {
        let element = self.find(&labelled(label)).await;
        self.post(&format!("/element/{element}/clear"), json!({}))
            .await;
        let keys = json!({ "text": text });
        self.post(&format!("/element/{element}/value"), keys).await;
    }

    /// Chooses from a list, by the words of the choice.
    pub async fn choose(&self, label: &str, words: &str) {
        let path = format!(
            "{}/option[normalize-space()={}]",
            labelled(label),
            quoted(words)
        );
        self.click(&path).await;
    }

    /// What is in a field.
    pub async fn value(&self, label: &str) -> String {
        let element = self.find(&labelled(label)).await;
        let value = self
            .get(&format!("/element/{element}/property/value"))
            .await;
        value.as_str().unwrap().to_owned()
    }

    /// What can be read on the page, once these words are among it.
    pub async fn sees(&self, words: &str) -> String {
        let path = format!("//body[contains(normalize-space(), {})]", quoted(words));
        let shown = self.text(&path).await;
        assert!(shown.contains(words), "'{words}' is there, but hidden");
        shown
    }

    /// What can be read of what an `XPath` leads to, once it is there.
    pub async fn text(&self, path: &str) -> String {
        let element = self.find(path).await;
        let text = self.get(&format!("/element/{element}/text")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Runs a script of the test's own, which no policy of the page is asked about, and waits for what it
    /// promises.
    pub async fn run(&self, script: &str) -> Value {
        let body = json!({ "script": script, "args": [] });
        self.post("/execute/sync", body).await
    }

    /// Runs a script of the test's own in every page from now on, before those of the page.
    pub async fn run_first(&self, script: &str) {
        let script = json!({ "source": script });
        self.devtools("Page.addScriptToEvaluateOnNewDocument", script)
            .await;
    }

    /// Presses keys, one after another, wherever the focus is.
    pub async fn type_keys(&self, keys: &str) {
        let strokes = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
        });
        let keyboard = json!({
            "type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>()
        });
        self.post("/actions", json!({ "actions": [keyboard] }))
            .await;
    }

    /// Shows pages as a screen of this size does, to somebody who likes them light or dark.
    pub async fn wear(&self, look: Look) {
        let Look { scheme, width } = look;
        let is_phone = look.is_phone();
        let screen = json!({
            "width": width, "height": if is_phone { 844 } else { 900 },
            "deviceScaleFactor": 1, "mobile": is_phone,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", screen)
            .await;
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let features = json!({ "features": [feature] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Asks Chromium itself, past the standard.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", body).await
    }

    /// The number of what an `XPath` leads to, once there is something.
    async fn find(&self, path: &str) -> String {
        let wanted = json!({ "using": "xpath", "value": path });
        match self.ask(Method::POST, "/element", wanted).await {
            Ok(found) => found[ELEMENT].as_str().unwrap().to_owned(),
            Err(why) => {
                let page = self.run("return document.body.innerText").await;
                panic!("{path}: {why}\n{}", page.as_str().unwrap_or_default())
            }
        }
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.ask(Method::GET, path, Value::Null).await;
        answer.unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.ask(Method::POST, path, body).await;
        answer.unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let path = format!("{}{path}", self.session);
        ask(&self.driver.address, method, &path, body).await
    }
}

impl Drop for Browser {
    /// Waits until Chromium has ended, also when the test has failed: nobody else would end it.
    fn drop(&mut self) {
        let (session, address) = (&self.session, &self.driver.address);
        let close = format!("DELETE {session} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        let closed = TcpStream::connect(address).and_then(|mut driver| {
            driver.write_all(close.as_bytes())?;
            // It answers once Chromium has ended, and leaves the connection open.
            driver.read(&mut [0; 256])
        });
        if let Err(error) = closed {
            eprintln!("a browser could not be closed: {error}");
        }
    }
}

/// Asks the driver, and gives what it answered or its reason.
async fn ask(address: &str, method: Method, path: &str, body: Value) -> Result<Value, String> {
    let body = match method {
        Method::POST => Bytes::from(body.to_string()),
        _ => Bytes::new(),
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, "application/json");
    let reply = send(address, request.body(Full::from(body)).unwrap()).await;
    let mut answer = reply.json();
    match reply.status.is_success() {
        true => Ok(answer["value"].take()),
        false => Err(answer["value"]["message"].to_string()),
    }
}

/// The field under a label.
fn labelled(label: &str) -> String {
    let label = quoted(label);
    format!(
        "//*[self::input or self::select or self::textarea]\
         [ancestor::label[normalize-space(span)={label}] or @id=//label[normalize-space()={label}]/@for]"
    )
}

/// A text as `XPath` writes it, which has no escapes: texts with both kinds of quotes are not looked for.
fn quoted(text: &str) -> String {
    match text.contains('"') {
        true => format!("'{text}'"),
        false => format!("\"{text}\""),
    }
}
