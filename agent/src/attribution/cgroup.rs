//! What a control group's path says: the systemd unit and the container. Only the path is read; it is set by
//! root and the container runtime, never by the process itself.

/// What was read off a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// Innermost systemd unit that is a service or a scope.
    pub unit: Option<&'a str>,
    /// Container id: 64 hex digits, as container runtimes name them.
    pub container: Option<&'a str>,
}

/// Reads a path such as `/system.slice/nginx.service`.
pub fn parse(path: &str) -> Place<'_> {
    let mut place = Place::default();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        if let Some(id) = container(segment) {
            place.container = Some(id);
            // `docker-<id>.scope` is the container, not a unit that anybody wrote.
            continue;
        }
        if segment.ends_with(".service") || segment.ends_with(".scope") {
            place.unit = Some(segment);
        }
    }
    place
}

/// The id in `<id>`, `docker-<id>.scope`, `cri-containerd-<id>.scope`, `crio-<id>`, `libpod-<id>.scope`.
fn container(segment: &str) -> Option<&str> {
    let name = segment.strip_suffix(".scope").unwrap_or(segment);
    let id = name.rsplit(['-', ':']).next()?;
    (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_innermost_unit_is_named() {
        let place = parse("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service");
        assert_eq!(place, Place { unit: Some("x.service"), container: None });
        assert_eq!(
            parse("/system.slice/system-postgresql.slice/postgresql@15-main.service").unit,
            Some("postgresql@15-main.service")
        );
        assert_eq!(parse("/user.slice/user-0.slice/session-91.scope").unit, Some("session-91.scope"));
        assert_eq!(parse("/"), Place::default());
    }

    #[test]
    fn containers_are_known_by_their_64_digits() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods/besteffort/pod1/crio-{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
        ] {
            assert_eq!(parse(&path).container, Some(ID), "{path}");
        }
        assert_eq!(parse(&format!("/x/{}", &ID[..63])).container, None);
    }

    #[test]
    fn a_unit_inside_a_container_is_still_told() {
        let path = format!("/docker/{ID}/system.slice/nginx.service");
        assert_eq!(parse(&path), Place { unit: Some("nginx.service"), container: Some(ID) });
    }
}
