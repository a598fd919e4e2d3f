//! What of the settings weakens a server's walls, in sentences for whoever runs it.
//!
//! Said at the start and by `/health`, from this one list. `check` in `config.rs` decides which of
//! it production refuses.

use super::Config;

impl Config {
    /// Whether endpoints are held to less than production holds them to.
    pub fn is_weakened(&self) -> bool {
        let destinations = &self.destinations;
        destinations.allow_http
            || !destinations.allow_private.is_empty()
            || !destinations.static_names.is_empty()
            || destinations.ca_file.is_some()
    }

    /// What is not as it is in production, said loudly. It names networks and hosts, so it is for the
    /// platform alone.
    pub fn notes(&self) -> Vec<String> {
        let destinations = &self.destinations;
        let networks: Vec<String> = destinations
            .allow_private
            .iter()
            .map(ToString::to_string)
            .collect();
        let names: Vec<&str> = destinations
            .static_names
            .keys()
            .map(String::as_str)
            .collect();
        let mut notes = Vec::new();
        if destinations.allow_http {
            notes.push(
                "INSECURE: endpoints may use plain http, so webhooks can be read on the way"
                    .to_owned(),
            );
        }
        if !networks.is_empty() {
            let networks = networks.join(", ");
            notes.push(format!(
                "INSECURE: endpoints may lie in private networks: {networks}"
            ));
        }
        if !names.is_empty() {
            let names = names.join(", ");
            notes.push(format!(
                "INSECURE: endpoints may use names that are not looked up: {names}"
            ));
        }
        if let Some(file) = &destinations.ca_file {
            let file = file.display();
            notes.push(format!(
                "endpoints may show certificates of an extra authority: {file}"
            ));
        }
        if self.gateway.dummy {
            notes.push(
                "the DUMMY gateway is on: it calls payments paid that moved no money".to_owned(),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_production_would_refuse_is_noted() {
        let settings = [
            ("HARKARA_DESTINATIONS__ALLOW_HTTP", "true"),
            (
                "HARKARA_DESTINATIONS__ALLOW_PRIVATE",
                "127.0.0.0/8,fd00::/8",
            ),
            (
                "HARKARA_DESTINATIONS__STATIC_NAMES",
                "shop.example=10.1.0.7",
            ),
            ("HARKARA_DESTINATIONS__CA_FILE", "/etc/ca.pem"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::load(None, settings.into_iter()).unwrap();
        assert!(config.is_weakened());
        insta::assert_snapshot!(config.notes().join("\n"), @r"
        INSECURE: endpoints may use plain http, so webhooks can be read on the way
        INSECURE: endpoints may lie in private networks: 127.0.0.0/8, fd00::/8
        INSECURE: endpoints may use names that are not looked up: shop.example
        endpoints may show certificates of an extra authority: /etc/ca.pem
        the DUMMY gateway is on: it calls payments paid that moved no money
        ");
    }

    #[test]
    fn production_has_nothing_to_note() {
        let settings = [("HARKARA_ENVIRONMENT".to_owned(), "production".to_owned())];
        let config = Config::load(None, settings.into_iter()).unwrap();
        assert!(!config.is_weakened() && config.notes().is_empty());
    }
}
