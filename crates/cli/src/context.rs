//! What every command starts from: environment, project, output.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use otto::config::{self, OperatorConfig, SYSTEM_CONFIG};
use otto::env::{self, Environment};
use otto::load::{self, Agents, KnownTool, LoadRequest};
use otto::{Booted, ConfigErrors};
use tokio::runtime::Runtime;

use crate::args::Global;
use crate::error::Failure;
use crate::log::Log;
use crate::output::Out;

/// What every command starts from.
pub(crate) struct Context {
    pub(crate) environment: Environment,
    /// Absolute, without symbolic links.
    pub(crate) project: PathBuf,
    pub(crate) booted: Booted,
    pub(crate) out: Out,
    pub(crate) log: Log,
}

/// A failure before there is a context.
pub(crate) struct Early {
    out: Out,
    failure: Failure,
}

impl Early {
    pub(crate) fn report(mut self) -> ExitCode {
        let code = self.out.failure(&self.failure);
        self.out.finish(code).into()
    }
}

impl Context {
    pub(crate) fn new(global: &Global, booted: Booted) -> Result<Self, Box<Early>> {
        let environment = Environment::of_process();
        let out = Out::new(global, &environment);
        let named = global
            .project
            .clone()
            .or_else(|| environment.variable(env::OTTO_PROJECT).map(PathBuf::from));
        match load::project_dir(&named.unwrap_or_else(|| PathBuf::from("."))) {
            Ok(project) => Ok(Self {
                environment,
                project,
                booted,
                out,
                log: Log::default(),
            }),
            Err(errors) => Err(Box::new(Early {
                out,
                failure: errors.into(),
            })),
        }
    }

    /// The operator's configuration.
    pub(crate) fn operator(&self) -> Result<OperatorConfig, Failure> {
        Ok(self.load_operator()?)
    }

    /// All agents of the project and the user.
    pub(crate) fn agents(&self, operator: &OperatorConfig) -> Result<Agents, Failure> {
        Ok(self.load_agents(operator)?)
    }

    pub(crate) fn load_operator(&self) -> Result<OperatorConfig, ConfigErrors> {
        let system = Path::new(SYSTEM_CONFIG);
        config::load_operator(&config::Sources {
            environment: &self.environment,
            project: &self.project,
            system: Some(system),
        })
    }

    pub(crate) fn load_agents(&self, operator: &OperatorConfig) -> Result<Agents, ConfigErrors> {
        load::load(&LoadRequest {
            project: &self.project,
            operator,
            tools: &KnownTool::base_tools(),
            prices: &otto::prices(operator),
            environment: &self.environment,
            protected: &operator.protected_paths(),
        })
    }

    /// A runtime for commands that wait for something. Commands that run agents take
    /// [`crate::lock::locked_runtime`] instead.
    pub(crate) fn runtime(&self) -> Result<Runtime, Failure> {
        self.log.go_on_in_background();
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::doing("start the runtime", &error))
    }
}
