"""What a person sees in the Prefect UI beside the progress: tables and sample triplets."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from scot_core.lake import Dataset
from scot_core.paper import main_metric

SAMPLES = 12


@task(task_run_name="show the benchmark", cache_policy=NO_CACHE)
def benchmark_artifact(rows: Dataset) -> None:
    """The benchmark's main metric, one row for each method and split; nothing where the targets are hidden."""
    table = rows.read(["benchmark", "split", "method", "metric", "value", "low", "high"]).to_pylist()
    if not table:
        return
    metric = main_metric(table[0]["benchmark"])
    shown = [
        {**row, **{k: round(row[k], 1) for k in ("value", "low", "high")}} for row in table if row["metric"] == metric
    ]
    words = f"{metric} on {table[0]['benchmark']} in percent, 95 % bootstrap interval over queries"
    create_table_artifact(shown, key="benchmark", description=words)


@task(task_run_name="show sample triplets", cache_policy=NO_CACHE)
def samples_artifact(triplets: Dataset) -> None:
    """A few triplets, spread over the dataset."""
    rows = triplets.read(["caption", "modification", "modified_caption"]).to_pylist()
    chosen = rows[:: max(1, len(rows) // SAMPLES)][:SAMPLES]
    lines = [f"| {row['caption']} | {row['modification']} | {row['modified_caption']} |" for row in chosen]
    head = "| caption | modification | modified caption |\n| --- | --- | --- |\n"
    create_markdown_artifact(
        head + "\n".join(lines), key="triplets", description=f"{len(chosen)} of {len(rows):,} triplets"
    )
