"""What every recipe shares: data model, protocols, shards, manifest, sampler, registry."""
