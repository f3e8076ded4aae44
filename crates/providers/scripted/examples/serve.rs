//! Serves a script until it is interrupted: `cargo run -p otto-scripted --example serve -- SCRIPT.yml [PORT]`.
//!
//! `otto sim` is the same with more options. This example has no price table of its own: it knows a few model
//! names and charges all of them alike.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use otto_core::model::{ModelSpec, PriceTable, TokenPrices};
use otto_core::{ModelId, Money};
use otto_scripted::{Script, ScriptedServer, ServerOptions};

#[expect(
    clippy::print_stdout,
    reason = "an example speaks to the person who runs it"
)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("expected the path of a script")?;
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let script = Script::parse(&std::fs::read_to_string(&path)?, &path)?;
    let options = ServerOptions {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        ..ServerOptions::new(Arc::new(prices()?))
    };
    let server = ScriptedServer::start(script, options).await?;
    println!("{}", server.base_url());
    std::future::pending().await
}

fn prices() -> Result<PriceTable, Box<dyn Error>> {
    let price = |dollars: &str| dollars.parse::<Money>();
    let prices = TokenPrices {
        input: price("0.000002")?,
        output: price("0.00001")?,
        cache_write_5m: price("0.0000025")?,
        cache_write_1h: price("0.000004")?,
        cache_read: price("0.0000001")?,
    };
    let models = [
        "claude-opus-5-5",
        "claude-sonnet-5-5",
        "claude-haiku-5-5",
        "claude-opus-5",
    ];
    let spec = |id| -> Result<ModelSpec, Box<dyn Error>> {
        Ok(ModelSpec {
            id: ModelId::new(id)?,
            aliases: Vec::new(),
            context_window: 1_000_000,
            max_output_tokens: 128_000,
            prices,
            long_context: None,
            surcharge_percent: 100,
            hidden_prompt_tokens: 1_024,
        })
    };
    let specs: Result<Vec<_>, _> = models.into_iter().map(spec).collect();
    Ok(PriceTable::new("example", specs?))
}
