//! Where a server is: `127.0.0.1:9700/app`, or `postgresql://postgres@127.0.0.1:9700/app`.

/// A database on a server, and the role to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub dbname: String,
    pub user: String,
}

impl Endpoint {
    /// A database on this machine, as user `postgres`.
    pub fn local(port: u16, dbname: &str) -> Endpoint {
        Endpoint { host: "127.0.0.1".into(), port, dbname: dbname.into(), user: "postgres".into() }
    }

    /// Reads `[postgresql://[user@]]host:port/dbname`.
    pub fn parse(text: &str) -> Result<Endpoint, String> {
        let rest = text.strip_prefix("postgresql://").unwrap_or(text);
        let (user, rest) = rest.split_once('@').unwrap_or(("postgres", rest));
        let (host, rest) = rest.split_once(':').ok_or_else(|| format!("no port in {text:?}"))?;
        let (port, dbname) = rest.split_once('/').unwrap_or((rest, "app"));
        let port = port.parse().map_err(|error| format!("port in {text:?}: {error}"))?;
        Ok(Endpoint { host: host.into(), port, dbname: dbname.into(), user: user.into() })
    }

    /// The same server, another database.
    pub fn database(&self, dbname: &str) -> Endpoint {
        Endpoint { dbname: dbname.into(), ..self.clone() }
    }

    /// The same database, another role.
    pub fn role(&self, user: &str) -> Endpoint {
        Endpoint { user: user.into(), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        let short = Endpoint::parse("127.0.0.1:9700/app").unwrap();
        assert_eq!(short, Endpoint::local(9700, "app"));
        let url = Endpoint::parse("postgresql://postgres@127.0.0.1:9700/app").unwrap();
        assert_eq!(url, short);
    }
}
