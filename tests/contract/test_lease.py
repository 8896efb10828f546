"""The lease of a cluster: who gets it, and what passes without it."""

import asyncio

import pytest

from gitsyncd.engine.ports import ClusterApi
from gitsyncd.model.answers import ApplyOptions
from gitsyncd.model.errors import Changed, LeaseLost
from gitsyncd.model.inventory import Inventory
from gitsyncd.model.lease import Candidate
from tests.contract.conftest import CONFIG_MAPS, Server

OURS, THEIRS = "host-a/1", "host-b/2"


async def take(api: ClusterApi, holder: str) -> None:
    await api.take_lease(await api.read_lease(), holder=holder, duration_s=15)


async def test_a_lease_that_nobody_made_yet_is_made_in_a_namespace_that_nobody_made_yet(server: Server) -> None:
    before = await server.api.read_lease()

    taken = await server.api.take_lease(before, holder=OURS, duration_s=15)

    assert before is None
    assert (taken.holder, taken.duration_s) == (OURS, 15)
    assert await server.api.read_lease() == taken


async def test_of_two_that_take_the_same_lease_one_is_refused(server: Server) -> None:
    other = server.connect()
    first_seen = await server.api.read_lease()
    await other.take_lease(first_seen, holder=THEIRS, duration_s=15)

    with pytest.raises(Changed):
        await server.api.take_lease(first_seen, holder=OURS, duration_s=15)

    lease = await server.api.read_lease()
    assert lease is not None and lease.holder == THEIRS


async def test_a_lease_that_was_renewed_since_it_was_read_cannot_be_taken(server: Server) -> None:
    other = server.connect()
    await take(other, THEIRS)
    seen = await server.api.read_lease()
    await asyncio.sleep(0.01)  # a renewal at the very same moment would be the same record
    await other.renew_lease(holder=THEIRS)

    with pytest.raises(Changed):
        await server.api.take_lease(seen, holder=OURS, duration_s=15)


async def test_a_renewal_changes_the_record_and_a_candidate_beside_it_does_not_disturb_it(server: Server) -> None:
    await take(server.api, OURS)
    before = await server.api.read_lease()
    await server.connect().stand_by(THEIRS, Candidate(holds=0, beat=1))

    after = await server.api.renew_lease(holder=OURS)

    assert before is not None and after.renewed != before.renewed
    assert after.candidates == {THEIRS: Candidate(holds=0, beat=1)}


async def test_what_another_holds_can_neither_be_renewed_nor_passed_on(server: Server) -> None:
    await take(server.api, THEIRS)

    with pytest.raises(Changed):
        await server.api.renew_lease(holder=OURS)
    with pytest.raises(Changed):
        await server.api.pass_lease_on(holder=OURS, heir="")

    lease = await server.api.read_lease()
    assert lease is not None and lease.holder == THEIRS


@pytest.mark.parametrize("heir", ["", THEIRS])
async def test_a_lease_is_passed_to_an_heir_or_to_nobody(server: Server, heir: str) -> None:
    await take(server.api, OURS)

    await server.api.pass_lease_on(holder=OURS, heir=heir)

    lease = await server.api.read_lease()
    assert lease is not None and lease.holder == heir


async def test_a_candidate_that_no_longer_stands_by_leaves_nothing_behind(server: Server) -> None:
    await take(server.api, OURS)
    await server.api.stand_by(THEIRS, Candidate(holds=2, beat=7))

    lease = await server.api.stand_by(THEIRS, None)

    assert lease.candidates == {}


async def test_whoever_stands_by_hears_of_a_release_at_once(server: Server) -> None:
    await take(server.api, OURS)
    other = server.connect()
    seen = await other.read_lease()
    assert seen is not None
    changes = other.lease_changes(seen)
    heard = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0.05)

    await server.api.pass_lease_on(holder=OURS, heir="")

    assert (await asyncio.wait_for(heard, 10)).holder == ""
    await changes.aclose()


async def test_without_the_lease_nothing_is_written_and_everything_is_read(server: Server) -> None:
    await take(server.api, OURS)
    server.api.allow_writes(float("-inf"))
    object_id, body = server.id("a"), server.body("a")

    with pytest.raises(LeaseLost):
        await server.api.apply(CONFIG_MAPS, object_id, body, ApplyOptions())
    with pytest.raises(LeaseLost):
        await server.api.delete(CONFIG_MAPS, object_id, uid="u")
    with pytest.raises(LeaseLost):
        await server.api.patch_managed_fields(CONFIG_MAPS, object_id, [], "1", {})
    with pytest.raises(LeaseLost):
        await server.api.save_inventory("web", Inventory(target="web@eu", commit="c" * 40))

    assert await server.api.read(CONFIG_MAPS, object_id) is None
    assert await server.api.load_inventories() == {}


async def test_a_dry_run_and_a_renewal_need_no_permission_to_write(server: Server) -> None:
    await take(server.api, OURS)
    server.api.allow_writes(float("-inf"))

    answer = await server.api.apply(CONFIG_MAPS, server.id("a"), server.body("a"), ApplyOptions(dry_run=True))
    renewed = await server.api.renew_lease(holder=OURS)

    assert answer["metadata"]["name"] == "a"
    assert renewed.holder == OURS
