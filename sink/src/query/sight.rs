//! Which hosts a person sees: the one place where a reader's scope is enforced. Everything that people read is read of a
//! host that came from here, and nothing else below `query` asks the store for hosts.

use custody_ledger::HostId;

use crate::http::{Caller, Refused};
use crate::identity::Scope;
use crate::store::{HostRow, Store, StoreError};

/// Who looks, and at what. Made of the certificate alone: no request can widen it.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    /// The person's name.
    pub(super) reader: String,
    scope: Scope,
}

impl Sight {
    pub(super) fn of(caller: &Caller) -> Result<Self, Refused> {
        let (_, name) = caller.person()?;
        Ok(Sight { reader: name.to_owned(), scope: caller.subject.scope.clone() })
    }

    /// Every host that is seen.
    pub(super) fn hosts(&self, store: &Store) -> Result<Vec<HostRow>, StoreError> {
        let mut hosts = store.hosts()?;
        hosts.retain(|host| self.has(host));
        Ok(hosts)
    }

    /// One host, if it is seen.
    pub(super) fn host(&self, store: &Store, host: HostId) -> Result<Option<HostRow>, StoreError> {
        Ok(store.host(host)?.filter(|host| self.has(host)))
    }

    fn has(&self, host: &HostRow) -> bool {
        self.scope.has(&host.enrolment.labels)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// A new route that asks the store itself would show a reader every host.
    #[test]
    fn nothing_else_that_people_read_asks_the_store_for_hosts() {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/query")];
        let mut looked = 0;
        while let Some(folder) = folders.pop() {
            for item in std::fs::read_dir(&folder).unwrap() {
                let path = item.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let asks = text.contains("store.hosts()") || text.contains("store.host(");
                assert_eq!(asks, path.ends_with("sight.rs"), "{}", path.display());
                looked += 1;
            }
        }
        assert!(looked > 10, "{looked} files: the folder is another one");
    }
}
