"""Signing in over HTTP, as browsers and those who attack them do."""

import re
from contextlib import AsyncExitStack
from datetime import timedelta

import pyotp
import pytest

from messaging.relay.admin.audit_tables import all_entries
from messaging.relay.admin.limits import (
    ABSOLUTE,
    BEGINNINGS,
    CHALLENGE_LIFETIME,
    ENROLMENT_LIFETIME,
    FRESH,
    IDLE,
    MAX_SIGN_INS,
    RECOVERY,
    SIGN_IN_TRIES,
)
from messaging.relay.admin.permissions import Role
from messaging.relay.admin.recovery import STEP
from tests.authenticators import USER_PRESENT, Authenticator, data, letters
from tests.consoles import Browser, StartedConsole, start_console
from tests.relays import Relays

MINUTE = 60_000


async def is_in(browser: Browser) -> bool:
    """Whether the browser is signed in."""
    answer = await browser.get("/account")
    assert answer.status in (200, 303)
    return answer.status == 200


async def codes_of(browser: Browser) -> list[str]:
    page = await browser.post("/account/recovery-codes")
    return re.findall(r"<code>([0-9A-Z-]{19})</code>", page.text)


async def outcomes_of(console: StartedConsole, action: str) -> list[str]:
    """What has come of each try of an action, by the audit log."""
    return [entry.said.outcome.value async for entry in all_entries(console.database) if entry.said.action == action]


async def recover(browser: Browser, code: str, second: str = "") -> int:
    return (await browser.post("/sign-in/recovery", {"code": code, "second": second})).status


# --- becoming an operator ---


async def test_whoever_has_the_first_link_becomes_the_owner_and_is_signed_in(relays: Relays, backend: str) -> None:
    async with AsyncExitStack() as stack:
        console = await start_console(relays, stack, backend)
        browser = await console.owner("Ada")
        assert await is_in(browser)
        said = [entry.said async for entry in all_entries(console.database)]
        assert [(each.operator, each.action) for each in said] == [("Ada", "operators.enrol"), ("Ada", "sign_in.begin")]
        assert said[0].detail["role"] == Role.OWNER


async def test_a_link_is_good_once(console: StartedConsole) -> None:
    await console.owner()
    again = await (await console.browser()).enrol(console.first_code, "Eve")
    assert (again.status, again.json["code"]) == (404, "not_found")


async def test_a_link_is_good_for_a_day_and_not_a_moment_longer(console: StartedConsole) -> None:
    console.clock.advance(minutes=ENROLMENT_LIFETIME.total_seconds() / 60)
    late = await (await console.browser()).enrol(console.first_code, "Ada")
    assert late.status == 404


async def test_a_name_that_is_taken_costs_nobody_their_link(console: StartedConsole) -> None:
    await console.owner("Ada")
    code, browser = await console.door.invite_by_terminal(Role.VIEWER, None), await console.browser()
    assert (await browser.enrol(code, "Ada")).status == 409
    assert (await browser.enrol(code, "Grace")).status == 200


async def test_a_challenge_of_one_link_is_worth_nothing_with_another(console: StartedConsole) -> None:
    first, second = [await console.door.invite_by_terminal(Role.OWNER, None) for _ in range(2)]
    browser = await console.browser()
    options = await browser.post_json("/enrol/options", {"code": first, "name": "Ada"})
    made = {"code": second, "name": "Ada", "credential": browser.passkey.create(options.json)}
    assert (await browser.post_json("/enrol/passkey", made)).json["code"] == "challenge_gone"


async def test_a_link_for_somebody_who_is_there_adds_a_passkey_to_them(console: StartedConsole) -> None:
    await console.owner("Ada")
    other = await console.browser()
    assert (await other.enrol(await console.door.invite_by_terminal(None, "Ada"))).status == 200
    assert "Ada" in (await other.get("/account")).text


# --- passkeys ---


async def test_a_passkey_signs_in_under_a_cookie_that_nobody_had(console: StartedConsole) -> None:
    browser = await console.owner()
    before = browser.cookie
    answer = await browser.sign_in()
    after = browser.cookie
    assert answer.json == {"next": "/"}
    assert before is not None
    assert after is not None
    assert before.value != after.value
    set_cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in set_cookie
    assert "SameSite=Strict" in set_cookie


async def test_a_cookie_that_somebody_else_has_set_is_not_the_one_that_is_signed_in(console: StartedConsole) -> None:
    browser = await console.owner()
    fixed = "A" * 43
    browser.http.cookie_jar.update_cookies({"subrosa": fixed})
    await browser.sign_in()
    other = await console.browser()
    assert (await other.get("/account", Cookie=f"subrosa={fixed}")).status == 303


async def test_signing_in_again_ends_the_sign_in_of_before(console: StartedConsole) -> None:
    browser = await console.owner()
    before = browser.cookie
    assert before is not None
    await browser.sign_in()
    other = await console.browser()
    assert (await other.get("/account", Cookie=f"subrosa={before.value}")).status == 303


async def test_an_answer_is_good_once(console: StartedConsole) -> None:
    browser = await console.owner()
    answer = {"credential": browser.passkey.get(await browser.challenge())}
    assert (await browser.post_json("/sign-in/passkey", answer)).status == 200
    again = await (await console.browser()).post_json("/sign-in/passkey", answer)
    assert (again.status, again.json["code"]) == (409, "challenge_gone")


async def test_a_wrong_answer_uses_its_challenge_up(console: StartedConsole) -> None:
    browser = await console.owner()
    options = await browser.challenge()
    wrong = Authenticator(
        console.running.url, credential_id=browser.passkey.credential_id, handle=browser.passkey.handle
    )
    assert (await browser.post_json("/sign-in/passkey", {"credential": wrong.get(options)})).status == 401
    right = {"credential": browser.passkey.get(options)}
    assert (await browser.post_json("/sign-in/passkey", right)).json["code"] == "challenge_gone"


async def test_a_challenge_is_good_for_five_minutes_and_not_a_moment_longer(console: StartedConsole) -> None:
    browser = await console.owner()
    lifetime = int(CHALLENGE_LIFETIME.total_seconds() * 1000)
    for late, status in ((lifetime - 1, 200), (lifetime, 409)):
        answer = {"credential": browser.passkey.get(await browser.challenge())}
        console.clock.advance(milliseconds=late)
        assert (await browser.post_json("/sign-in/passkey", answer)).status == status


async def test_a_challenge_for_adding_a_passkey_signs_nobody_in(console: StartedConsole) -> None:
    browser = await console.owner()
    options = (await browser.post_json("/account/passkeys/options", {})).json
    answer = browser.passkey.get({"challenge": options["challenge"], "rpId": options["rp"]["id"]})
    assert (await browser.post_json("/sign-in/passkey", {"credential": answer})).json["code"] == "challenge_gone"


@pytest.mark.parametrize("wrong", ["origin", "verification", "signature", "handle", "count", "site"])
async def test_what_does_not_hold_is_refused_and_says_no_more_than_that(console: StartedConsole, wrong: str) -> None:
    browser = await console.owner()
    await browser.sign_in()
    passkey, options = browser.passkey, dict(await browser.challenge())
    match wrong:
        case "origin":
            passkey.origin = "http://localhost:1"
        case "verification":
            passkey.flags = USER_PRESENT
        case "handle":
            passkey.handle = bytes(32)
        case "count":
            passkey.count = 0
        case "site":
            options["rpId"] = "elsewhere.example"
    answer = passkey.get(options)
    if wrong == "signature":
        signature = bytearray(data(answer["response"]["signature"]))
        signature[-1] ^= 1
        answer["response"]["signature"] = letters(bytes(signature))
    refused = await (await console.browser()).post_json("/sign-in/passkey", {"credential": answer})
    assert (refused.status, refused.json) == (401, {"code": "not_right", "message": "That was not right. Try again."})
    assert "Set-Cookie" not in refused.headers
    last = [entry.said async for entry in all_entries(console.database)][-1]
    assert (last.operator, last.action, last.outcome) == ("Ada", "sign_in.begin", "refused")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"credential": {}}', b'{"credential": {"rawId": 5}}', b'{"credential": "x"}']
)
async def test_what_is_no_answer_is_refused(console: StartedConsole, body: bytes) -> None:
    browser = await console.browser()
    headers = {**browser.ours, "Content-Type": "application/json"}
    answer = await browser.send("POST", "/sign-in/passkey", headers=headers, data=body)
    assert answer.status in (401, 422)


async def test_a_passkey_of_another_operator_does_not_open_mine(console: StartedConsole) -> None:
    ada, grace = await console.owner("Ada"), await console.operator(Role.VIEWER, "Grace")
    grace.passkey.handle = ada.passkey.handle
    assert (await grace.sign_in()).status == 401


# --- how long ---


async def test_a_sign_in_ends_when_nobody_has_used_it_for_a_while(console: StartedConsole) -> None:
    browser = await console.owner()
    idle = int(IDLE.total_seconds() * 1000)
    console.clock.advance(milliseconds=idle - 1)
    assert await is_in(browser)
    console.clock.advance(milliseconds=idle)
    assert not await is_in(browser)


async def test_an_open_page_that_asks_for_figures_by_itself_is_no_use(console: StartedConsole) -> None:
    browser = await console.owner()
    for _ in range(IDLE // timedelta(minutes=10)):
        assert (await browser.get("/live.json", Accept="application/json")).status == 200
        console.clock.advance(minutes=10)
    assert (await browser.get("/live.json", Accept="application/json")).status == 401
    assert not await is_in(browser)


async def test_a_sign_in_ends_whatever_its_operator_does(console: StartedConsole) -> None:
    browser = await console.owner()
    absolute, step = int(ABSOLUTE.total_seconds() * 1000), 20 * MINUTE
    for _ in range(absolute // step - 1):
        console.clock.advance(milliseconds=step)
        assert await is_in(browser)
    console.clock.advance(milliseconds=step - 1)
    assert await is_in(browser)
    console.clock.advance(milliseconds=1)
    assert not await is_in(browser)


async def test_the_oldest_of_too_many_sign_ins_ends(console: StartedConsole) -> None:
    first = await console.owner()
    others = []
    for _ in range(MAX_SIGN_INS):
        console.clock.advance(milliseconds=1)
        other = await console.browser()
        other.passkey = first.passkey
        assert (await other.sign_in()).status == 200
        others.append(other)
    assert not await is_in(first)
    assert await is_in(others[0])


async def test_signing_out_ends_it_on_the_server(console: StartedConsole) -> None:
    browser = await console.owner()
    value = browser.cookie
    assert value is not None
    assert (await browser.post("/sign-out")).headers["Location"] == "/sign-in"
    other = await console.browser()
    assert (await other.get("/account", Cookie=f"subrosa={value.value}")).status == 303


async def test_one_ends_ones_own_sign_ins_and_nobody_elses(console: StartedConsole) -> None:
    ada, grace = await console.owner("Ada"), await console.operator(Role.VIEWER, "Grace")
    name = re.search(r'name="sign_in" value="([0-9a-f]{16})"', (await ada.get("/account")).text)
    assert name is not None
    refused = await grace.post("/account/sign-ins/end", {"sign_in": name[1]})
    assert refused.status == 404
    assert await is_in(ada)
    assert (await ada.post("/account/sign-ins/end", {"sign_in": name[1]})).status == 303
    assert not await is_in(ada)


# --- too many tries ---


async def test_after_ten_wrong_tries_an_address_is_not_listened_to_for_the_rest_of_the_minute(
    console: StartedConsole,
) -> None:
    ada, eve = await console.owner(), await console.browser()
    for _ in range(SIGN_IN_TRIES):
        assert (await eve.sign_in()).status == 401
    assert (await eve.sign_in()).status == 429
    assert (await ada.sign_in()).status == 429  # right, but from the same address
    console.clock.advance(minutes=1)
    assert (await ada.sign_in()).status == 200


async def test_right_tries_do_not_count(console: StartedConsole) -> None:
    ada = await console.owner()
    for _ in range(SIGN_IN_TRIES + 1):
        assert (await ada.sign_in()).status == 200


async def test_recovery_codes_are_guessed_no_faster(console: StartedConsole) -> None:
    eve = await console.browser()
    for _ in range(SIGN_IN_TRIES):
        assert await recover(eve, "AAAA-AAAA-AAAA-AAAA") == 401
    assert await recover(eve, "AAAA-AAAA-AAAA-AAAA") == 429


async def test_an_address_begins_only_so_many_ceremonies(console: StartedConsole) -> None:
    browser = await console.browser()
    for _ in range(BEGINNINGS):
        assert (await browser.post_json("/sign-in/options", {})).status == 200
    assert (await browser.post_json("/sign-in/options", {})).status == 429


async def test_links_are_guessed_no_faster(console: StartedConsole) -> None:
    eve = await console.browser()
    for _ in range(SIGN_IN_TRIES):
        assert (await eve.enrol("x", "Eve")).status == 404
    assert (await eve.enrol(console.first_code, "Eve")).status == 429


# --- recovery ---


async def test_a_recovery_code_lets_add_a_passkey_and_nothing_else(console: StartedConsole) -> None:
    ada = await console.owner()
    codes, found = await codes_of(ada), await console.browser()
    assert len(set(codes)) == 10
    assert await recover(found, codes[0]) == 303
    assert (await found.get("/")).headers["Location"] == "/account"
    assert (await found.post("/account/recovery-codes")).status == 403
    assert (await found.post("/actions/operators.invite", {"role": "owner"})).status == 403
    assert await outcomes_of(console, "sign_in.recovery") == ["refused", "refused"]
    added = await found.add_passkey(found.passkey)
    assert added.json == {"next": "/sign-in"}
    assert not await is_in(found)
    assert (await found.sign_in()).status == 200
    assert (await found.get("/")).status == 200


async def test_a_recovery_code_ends_all_other_sign_ins(console: StartedConsole) -> None:
    ada, found = await console.owner(), await console.browser()
    code = (await codes_of(ada))[0]
    await recover(found, code)
    assert not await is_in(ada)


async def test_a_recovery_code_is_good_once(console: StartedConsole) -> None:
    code = (await codes_of(await console.owner()))[0]
    assert await recover(await console.browser(), code.lower().replace("-", " ")) == 303
    assert await recover(await console.browser(), code) == 401


async def test_new_codes_make_the_old_ones_worthless(console: StartedConsole) -> None:
    ada = await console.owner()
    old = await codes_of(ada)
    await codes_of(ada)
    assert await recover(await console.browser(), old[0]) == 401


async def test_what_a_recovery_code_opens_ends_soon(console: StartedConsole) -> None:
    code, found = (await codes_of(await console.owner()))[0], await console.browser()
    await recover(found, code)
    console.clock.advance(milliseconds=int(RECOVERY.total_seconds() * 1000) - 1)
    assert await is_in(found)
    console.clock.advance(milliseconds=1)
    assert not await is_in(found)


async def set_up_app(browser: Browser, clock: StartedConsole) -> str:
    """Set an authenticator app up; returns its secret in base32."""
    page = (await browser.get("/account/totp")).text
    pending, secret = (
        re.search(r'name="pending" value="([^"]+)"', page),
        re.search(r"<code>([A-Z2-7]{32})</code>", page),
    )
    assert pending is not None
    assert secret is not None
    code = pyotp.TOTP(secret[1]).generate_otp(clock.clock.now // STEP)
    assert (await browser.post("/account/totp", {"pending": pending[1], "code": code})).status == 303
    return secret[1]


async def test_with_an_app_a_recovery_code_alone_is_not_enough_and_no_time_based_code_is_good_twice(
    console: StartedConsole,
) -> None:
    ada = await console.owner()
    codes, totp = await codes_of(ada), pyotp.TOTP(await set_up_app(ada, console))
    used = totp.generate_otp(console.clock.now // STEP)  # it has confirmed the app
    assert await recover(await console.browser(), codes[0]) == 401
    assert await recover(await console.browser(), codes[0], used) == 401
    console.clock.advance(milliseconds=STEP)
    now = totp.generate_otp(console.clock.now // STEP)
    assert await recover(await console.browser(), codes[0], now) == 303
    assert await recover(await console.browser(), codes[1], now) == 401


async def test_who_has_a_recovery_code_guesses_ten_second_factors_a_day(console: StartedConsole) -> None:
    ada = await console.owner()
    codes, totp = await codes_of(ada), pyotp.TOTP(await set_up_app(ada, console))
    for _ in range(10):
        console.clock.advance(minutes=1)
        assert await recover(await console.browser(), codes[0], "000000") == 401
    console.clock.advance(minutes=1)
    right = totp.generate_otp(console.clock.now // STEP)
    assert await recover(await console.browser(), codes[0], right) == 429
    console.clock.advance(minutes=24 * 60)
    assert await recover(await console.browser(), codes[0], totp.generate_otp(console.clock.now // STEP)) == 303


# --- one's own means ---


async def test_what_one_signs_in_with_is_changed_only_shortly_after_signing_in(console: StartedConsole) -> None:
    browser = await console.owner()
    console.clock.advance(milliseconds=int(FRESH.total_seconds() * 1000) - 1)
    assert (await browser.post("/account/recovery-codes")).status == 200
    console.clock.advance(milliseconds=1)
    assert (await browser.post("/account/recovery-codes")).status == 403
    assert (await browser.get("/account/totp")).status == 403
    assert (await browser.add_passkey(Authenticator(console.running.url))).status == 403
    assert await outcomes_of(console, "recovery_codes.make") == ["done", "refused"]
    assert await outcomes_of(console, "passkeys.add") == await outcomes_of(console, "totp.set") == ["refused"]


async def test_the_only_passkey_stays_and_another_ones_is_not_there(console: StartedConsole) -> None:
    ada, grace = await console.owner("Ada"), await console.operator(Role.VIEWER, "Grace")
    mine, hers = ada.passkey.credential_id.hex(), grace.passkey.credential_id.hex()
    assert (await ada.post("/account/passkeys/remove", {"passkey": mine})).status == 409
    assert (await ada.add_passkey(Authenticator(console.running.url))).status == 200
    assert (await ada.post("/account/passkeys/remove", {"passkey": hers})).status == 404
    assert (await ada.post("/account/passkeys/remove", {"passkey": mine})).status == 303
    assert (await ada.sign_in()).status == 401
    assert (await grace.sign_in()).status == 200


async def test_an_operator_whom_one_loss_would_lock_out_is_told_so(console: StartedConsole) -> None:
    ada = await console.owner()
    assert "could not come in again" in (await ada.get("/")).text
    await codes_of(ada)
    assert "could not come in again" not in (await ada.get("/")).text
