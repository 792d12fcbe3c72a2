"""Lines read as a person would say them, and where the rules are not sure the words stay as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ai_enclave.features.names import looks
from ai_enclave.features.render import RULE_WORDS, render
from ai_enclave.features.text import words_of


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("I need trees and no meetings.", "Jonas needs trees and no meetings."),
        ("I'm in.", "Jonas is in."),
        ("I can bring tents and lamps", "Jonas can bring tents and lamps."),
        (
            "I'll bring the tents, two lamps and the big stove.",
            "Jonas will bring the tents, two lamps and the big stove.",
        ),
        ("I need the signed contract 🎉", "Jonas needs the signed contract."),
        ("I wrote at 9:30 and gave them until noon.", "Jonas wrote at 9:30 and gave them until noon."),
        ("I'll bring my big stove", "Jonas will bring their big stove."),
        ("I can drive.", "Jonas can drive."),
        ("I really have to go", "Jonas really has to go."),
        ("I called the owner and I paid.", "Jonas: called the owner and Jonas paid."),
        ("I don't know the way yet.", "Jonas doesn't know the way yet."),
        ("I try to be there at 9", "Jonas tries to be there at 9."),
        ("Ok, I will help with the shopping, Priya.", "Jonas will help with the shopping, Priya."),
        ("I will help you with the shopping.", 'Jonas: "I will help you with the shopping."'),
        ("The deposit is paid!", 'Jonas: "The deposit is paid!"'),
        ("I frobnicate daily.", 'Jonas: "I frobnicate daily."'),
        ("Which cabin do you mean?", 'Jonas asks: "Which cabin do you mean?"'),
        ("Do you have time?", 'Jonas asks: "Do you have time?"'),
        ("Ich bringe den Kaffee mit.", 'Jonas: "Ich bringe den Kaffee mit."'),
        ("hello everyone, the train is late", 'Jonas: "The train is late"'),
        ("🎉🎉", ""),
        ("...", ""),
        ("", ""),
    ],
)
def test_in_a_group(text: str, line: str) -> None:
    assert render(text, "Jonas") == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Do you have time tomorrow evening?", "Jonas asks if Amanda has time tomorrow evening."),
        ("Can you call me?", "Jonas asks if Amanda can call them."),
        ("Are you coming?", "Jonas asks if Amanda is coming."),
        ("Do you frobnicate?", "Jonas asks: does Amanda frobnicate?"),
        ("What do you want?", "Jonas asks: What does Amanda want?"),
        ("where are you", 'Jonas: "Where are you"'),
        ("where are you?", "Jonas asks: where is Amanda?"),
        ("when can I call you?", "Jonas asks: when can Jonas call Amanda?"),
        ("what time will you be here if I'm late?", "Jonas asks: what time will Amanda be here if Jonas is late?"),
        ("Have you told Sue that I lost your keys?", 'Jonas asks: "Have you told Sue that I lost your keys?"'),
        ("I like your idea.", 'Jonas: "I like your idea."'),
        ("Can I have your keys?", "Jonas asks: Can Jonas have Amanda's keys?"),
        ("Do you still have my book?", "Jonas asks if Amanda still has their book."),
        ("Do you eat meat and drink wine?", "Jonas asks: does Amanda eat meat and drink wine?"),
        ("Do you want tea and have time?", "Jonas asks: does Amanda want tea and have time?"),
        ("Are you and Bob coming?", 'Jonas asks: "Are you and Bob coming?"'),
        ("I think you are right.", 'Jonas: "I think you are right."'),
        ("I will call you tomorrow.", "Jonas will call Amanda tomorrow."),
        ("I can help you bake.", "Jonas can help Amanda bake."),
        ("I heard from you are sad.", 'Jonas: "I heard from you are sad."'),
        ("I know you're busy.", 'Jonas: "I know you\'re busy."'),
        ("I'll wait if you're busy and can come", "Jonas: \"I'll wait if you're busy and can come\""),
        ("I paid and you agreed to owe me 500", 'Jonas: "I paid and you agreed to owe me 500"'),
        ("you should ask my brother", "Jonas: Amanda should ask Jonas's brother."),
        ("you need my key", 'Jonas: "You need my key"'),
        ("if you come I bring my key", "Jonas: if Amanda comes Jonas brings Jonas's key."),
        ("you can ask me :)", "Jonas: Amanda can ask Jonas."),
        ("you lied to my brother", 'Jonas: "You lied to my brother"'),
        ("I heard you stole it", 'Jonas: "I heard you stole it"'),
        ("Do you know that Bob lied?", 'Jonas asks: "Do you know that Bob lied?"'),
        ("I trusted yourself.", 'Jonas: "I trusted yourself."'),
        ("the train is late and I can't make it", "Jonas: the train is late and Jonas can't make it."),
        ("my car broke down so I need your help", 'Jonas: "My car broke down so I need your help"'),
        ("Lotte I'm so sorry", 'Jonas: "Lotte I\'m so sorry"'),
        ("I would if you frob", 'Jonas: "I would if you frob"'),
        ("thank you", 'Jonas: "Thank you"'),
        ("me.", 'Jonas: "Me."'),
        ("You never know", 'Jonas: "You never know"'),
    ],
)
def test_between_two_people_you_is_known(text: str, line: str) -> None:
    assert render(text, "Jonas", "Amanda") == line


@pytest.mark.parametrize(
    "text",
    [
        "I paid and the boss quit",
        "I paid, two quit",
        "I paid & everybody agrees",
        "I paid the boss he agrees",
        "I paid \u0430nd the boss agrees",  # in Cyrillic
        "I met the man who quit",
        "I left after the boss hit me",
        "I paid and it's fine",
        "I know everyone owes me money",
        "I can confirm the boss owes me money",
        "I want to say the boss owes me money",
        "I'm sure the boss agrees",
        "I said Friday the boss agrees",
        "I need what everybody needs",
        "I paid everyone agrees",
        "I saw him steal the box",
    ],
)
def test_what_may_be_a_second_clause_stays_behind_the_name_of_who_said_it(text: str) -> None:
    assert render(text, "Jonas").startswith("Jonas: ")


@pytest.mark.parametrize(
    "text",
    [
        "I paid - the boss quit",
        "I paid 🎉 the boss quit",
        "I'm in. Bob: I'll pay",
        "I said “you pay me”",
        "I will pay... you too",
        "I paid <b>",
        "I paid\u2014all of it",
    ],
)
def test_what_could_begin_anothers_words_is_quoted(text: str) -> None:
    assert render(text, "Jonas", "Amanda").startswith('Jonas: "I')


CLAIMS = """
I was robbed by you tonight
I saw your cocaine
I kissed you and your brother
you must have stolen my bike
you might be the thief
you must pay me 500
you need my help
your debt is 500
I know you steal from the till
I saw you hit my child
and you hit me
if you stole my bike I want it
I know the thief is Priya
Priya, I know, stole it
I know Priya and my boss stole it
the killer of my dog is called Priya
I am pregnant by Priya
I'll call you a liar
J stole my bike
she said I love it
my ex told them, I hate my job
"""


@pytest.mark.parametrize("said", CLAIMS.strip().splitlines())
def test_what_could_be_held_against_another_member_stands_in_quotation_marks(said: str) -> None:
    line = render(said, "Sam", "Priya", names=looks("priya") | looks("j"))
    assert line == f'Sam: "{said[:1].upper()}{said[1:]}"'


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("the final was 2:3 and I cried", "2:3"),
        ("my seat is B:3", "B:3"),
        ("I need a 4:3 screen", "4:3"),
        ("It is −5 degrees", "−5"),
        ("I can ❌ come", "❌"),
        ("I will ⛔ pay", "⛔"),
        ("I need 3 ≠ 4 lamps", "3 ≠ 4"),
        ("pick ① or my ②", "①"),
        ("I keep it <3 degrees", "<3"),
    ],
)
def test_signs_that_say_something_stay(said: str, kept: str) -> None:
    assert kept in render(said, "Sam", "Priya")


@pytest.mark.parametrize("said", ["I am here :)", "I am here 🎉🎉", "I am here xD", ":D I am here", "I am here ^^"])
def test_signs_of_a_mood_go(said: str) -> None:
    assert render(said, "Sam") == "Sam is here."


@pytest.mark.parametrize("name", ["Miller", "Mi1ler", "MILLER", "MiIIer", "Miller's"])
def test_a_name_is_known_in_letters_that_look_alike(name: str) -> None:
    said = f"I gave {name} friend money."
    assert render(said, "Jonas", names=looks("miller")) == f'Jonas: "{said}"'
    assert render(said, "Jonas", names=looks("muller")) == said.replace("I", "Jonas", 1)


RULES = RULE_WORDS | {"amanda", "amanda's", "jonas", "jonas's"}


def stem(word: str) -> str:
    return word.removesuffix("s").removesuffix("e").removesuffix("i").removesuffix("y")


@given(
    st.lists(
        st.sampled_from(
            [
                "I",
                "I'm",
                "I'll",
                "my",
                "you",
                "your",
                "need",
                "have",
                "can",
                "do",
                "are",
                "like",
                "try",
                "called",
                "trees",
                "Friday",
                "9:30",
                "ok,",
                "?",
                "!",
                "well",
            ]
        ),
        max_size=12,
    ).map(" ".join)
    | st.text(max_size=60)
)
def test_no_word_comes_from_nowhere(text: str) -> None:
    for addressee in (None, "Amanda"):
        said = {stem(word.casefold()) for word in words_of(text)}  # µ and ß in upper case are other letters'
        for word in words_of(render(text, "Jonas", addressee)):
            assert word in RULES or stem(word.casefold()) in said
