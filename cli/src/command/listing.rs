//! What the lists of a policy service have in common.

/// How much of a list is asked for at once.
#[derive(clap::Args)]
pub(super) struct Page {
    /// How many, 1 to 1000
    #[arg(short = 'n', long = "count", value_name = "COUNT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) count_max: u32,
}

/// A list of what principals have: whose, from where on, and how much.
#[derive(clap::Args)]
pub(super) struct OfPrincipals {
    /// Only those of a principal of this issuer
    #[arg(long, requires = "subject", conflicts_with = "tenant")]
    pub(super) issuer: Option<String>,
    /// Only those of this principal
    #[arg(long, requires = "issuer")]
    pub(super) subject: Option<String>,
    /// Only those of this tenant
    #[arg(long)]
    pub(super) tenant: Option<String>,
    /// Begin after this one: the `next` of the page before
    #[arg(long, value_name = "ID")]
    pub(super) after: Option<String>,
    #[command(flatten)]
    pub(super) page: Page,
}
