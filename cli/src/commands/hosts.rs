//! `custody hosts`.

use anyhow::anyhow;
use custody_record::view::HostView;

use super::{path, sink};
use crate::args::{Format, HostsArgs};
use crate::outcome::{Exit, Failure, Outcome};
use crate::output::{Lines, Style};
use crate::{render, select};

pub(crate) async fn run(arguments: &HostsArgs) -> Outcome {
    let filter = select::hosts(&arguments.hosts)?.join(" and ");
    let (client, _) = sink()?;
    let hosts: Vec<HostView> =
        client.get(&path("/v1/hosts", &[("where", Some(filter).filter(|f| !f.is_empty()))])).await?;
    if hosts.is_empty() {
        return Err(Failure::negative(anyhow!("no such host at this sink")));
    }
    let mut lines = Lines::new();
    if arguments.output.format == Format::Json {
        hosts.iter().try_for_each(|host| lines.json(host))?;
    } else {
        let style = Style::of(&arguments.output);
        render::table::hosts(&hosts, &style).iter().try_for_each(|line| lines.put(line))?;
    }
    lines.flush()?;
    Ok(Exit::Ok)
}
