"""``pull``, ``cache`` and ``demo``: weights and pixels on this machine, and the tour without any."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from rs_embed.cli.app import app, usage
from rs_embed.cli.options import Backend, Json, ModelNames, Time, VariantName, given, span_of
from rs_embed.cli.printing import counted, fail, print_json, print_table, say_size

__all__: list[str] = []


EXAMPLES = """\b
Examples:
  rs-embed pull galileo --variant tiny
  rs-embed pull remoteclip galileo --all
"""


@app.command("pull", epilog=EXAMPLES)
def pull(
    names: ModelNames = None,
    variant: VariantName = None,
    every: Annotated[bool, typer.Option("--all", help="All variants of each model.")] = False,
    as_json: Json = False,
) -> None:
    """Bring weights onto this machine and verify them, for nodes without a network.

    They go to the cache (RS_EMBED_CACHE_DIR, or ~/.cache/rs-embed); what lies there is not downloaded again.
    """
    if not names:
        usage("name at least one MODEL; 'rs-embed models' lists them")
    if variant is not None and (every or len(names) > 1):
        usage("--variant names a size of one MODEL" + (", --all takes every size" if every else ""))
    from rs_embed.core.errors import RSEmbedError
    from rs_embed.core.registry import get_spec
    from rs_embed.inference.cached import pull as bring
    from rs_embed.inference.cached import variants_of

    wanted = [(name, each) for name in names for each in variants_of(get_spec(name), variant, every=every)]
    records, failed = [], False
    for name, each in wanted:
        try:
            with _progress(f"{name} {each}") as progress:
                found = bring(name, each, progress=progress)
        except RSEmbedError as error:
            if len(wanted) == 1:
                raise
            fail(str(error))
            failed = True
            continue
        records.append(found.record())
        if not as_json:
            _print_pulled(found)
    if as_json:
        print_json(records)
    if failed:
        raise typer.Exit(1)


def _print_pulled(found: Any) -> None:
    typer.secho(f"{found.model} {found.variant}", bold=True)
    if found.path is None:
        typer.echo(f"  {found.verified}: nothing to pull")
        return
    typer.echo(f"  path     {found.path}\n  size     {say_size(found.size_bytes)}\n  sha256   {found.sha256}")
    typer.echo(f"  verified against {found.verified}\n  licence  {found.licence}")


@contextmanager
def _progress(title: str) -> Iterator[Any]:
    """Yield what draws a download on a terminal, and None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, visible=False)

        def tell(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield tell


cache = typer.Typer(
    help="What was downloaded: weights, pixels of open imagery, and indexes of products.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(cache, name="cache")


@cache.command("info")
def cache_info(as_json: Json = False) -> None:
    """Show where the cache is, how large, which models' weights lie there, how many pixels, and what of products."""
    from rs_embed.inference.cached import cached_weights, products_size, weights_size
    from rs_embed.inference.downloads import cache_dir
    from rs_embed.providers.cache import pixel_folder
    from rs_embed.providers.cache_files import pixel_files

    folder, weights = cache_dir(), cached_weights()
    pixels = pixel_files(pixel_folder())
    files, size = pixels.size()
    products = products_size()
    total = weights_size() + size + products
    if as_json:
        rows = [{"model": m, "variant": v, "path": str(p), "size_bytes": n} for m, v, p, n in weights]
        kept = {"path": str(pixels.folder), "files": files, "size_bytes": size, "limit_bytes": pixels.limit}
        indexes = {"path": str(folder / "products"), "size_bytes": products}
        told = {"folder": str(folder), "size_bytes": total, "weights": rows, "pixels": kept, "products": indexes}
        print_json(told)
        return
    typer.echo(f"{folder}: {say_size(total)}")
    if weights:
        rows_of_text = [[m, v, say_size(n), str(p)] for m, v, p, n in weights]
        print_table(("model", "variant", "size", "path"), rows_of_text, right=("size",))
    else:
        typer.echo("no weights yet: rs-embed pull MODEL")
    room = f"at most {say_size(pixels.limit)}, the least recently used go first"
    typer.echo(f"pixels: {say_size(size)} in {counted(files, 'file')} ({room})")
    typer.echo(f"products: {say_size(products)} of indexes and tiles of their stores")


@cache.command("clear")
def cache_clear(
    pixels: Annotated[bool, typer.Option("--pixels", help="Delete the cached pixels.")] = False,
    weights: Annotated[bool, typer.Option("--weights", help="Delete the downloaded weights.")] = False,
    products: Annotated[
        bool, typer.Option("--products", help="Delete indexes and tiles of the stores of products.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete weights without asking.")] = False,
) -> None:
    """Delete cached pixels, what is kept of products, or downloaded weights: all of it can be downloaded again."""
    if not (pixels or weights or products):
        usage("say what: --pixels, --weights or --products, one or several")
    from rs_embed.inference.cached import clear_products, clear_weights, weights_size
    from rs_embed.providers.cache import pixel_folder
    from rs_embed.providers.cache_files import pixel_files

    if weights:
        size = weights_size()
        if size and not yes and not typer.confirm(f"Delete {say_size(size)} of downloaded weights?", err=True):
            raise typer.Abort
        typer.echo(f"weights: {say_size(clear_weights())} deleted")
    if pixels:
        typer.echo(f"pixels: {say_size(pixel_files(pixel_folder()).clear())} deleted")
    if products:
        typer.echo(f"products: {say_size(clear_products())} deleted")


@app.command("demo")
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the files go; those of an earlier run are replaced.")] = Path(
        "demo"
    ),
    place: Annotated[
        tuple[float, float] | None,
        typer.Option("--place", metavar="LON LAT", help="Show this place from open imagery instead, degrees."),
    ] = None,
    time: Time = None,
    backend: Backend = None,
    buffer: Annotated[
        float | None, typer.Option("--buffer", metavar="M", help="Half the side of the picture, metres [2560].")
    ] = None,
) -> None:
    """Embed a painted landscape at two dates: a table, a GeoParquet, a GeoTIFF and a picture.

    It needs no network, no account and no torch. With --place, a real place at one --time.
    """
    from rs_embed.demo import HALF_M, run_demo, run_demo_at

    if place is None:
        if others := given(time=time, backend=backend, buffer=buffer):
            usage(f"{' and '.join(others)} needs --place LON LAT")
        run_demo(folder)
    else:
        half = HALF_M if buffer is None else buffer
        run_demo_at(folder, place, temporal=span_of(time), backend=backend or "auto", half_m=half)
