import string

from hypothesis import given
from hypothesis import strategies as st

from codetune.redaction import Identity, learn, redact_row, redact_text

SECRET = "q7Xb2Lm9Zk4Tn8Rv3Wc6Yd1H"
MIRA = learn(["/home/mira/work"])


def chat(*messages):
    return {"id": "r", "task": "chat", "messages": list(messages), "meta": {"group": "mira"}}


def call(tool, **arguments):
    function = {"name": tool, "arguments": arguments}
    return {"id": "call_1", "type": "function", "function": function}


def test_a_secret_is_replaced_alike_in_arguments_and_results():
    row = chat(
        {"role": "user", "content": f"API_KEY='{SECRET}'"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [call("Edit", old_string=f"x {SECRET}", edits=[{"new": SECRET}])],
        },
        {"role": "tool", "content": f"now {SECRET}.", "tool_call_id": "call_1", "name": "Edit"},
    )
    clean, counts = redact_row(row, Identity())
    assert SECRET not in str(clean)
    arguments = clean["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert arguments == {"old_string": "x <SECRET_1>", "edits": [{"new": "<SECRET_1>"}]}
    assert clean["messages"][2]["content"] == "now <SECRET_1>."
    assert counts == {"assigned_token": 1}


def test_names_are_replaced_in_keys_and_in_the_schemas_inferred_from_calls():
    """A schema lists the values and the keys that were seen, which may be a person's."""
    asked = call("mcp__server1__assign", name="mira", mail={"ada@harbour.net": "mira"})
    properties = {"name": {"type": "string", "enum": ["mira"]}, "mira": {"type": "object"}}
    function = {"name": "mcp__server1__assign", "parameters": {"properties": properties}}
    answer = {"role": "assistant", "content": "", "tool_calls": [asked]}
    tools = [{"type": "function", "function": function}]
    clean, _ = redact_row({**chat(answer), "tools": tools}, MIRA)
    arguments = clean["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert arguments == {"name": "user1", "mail": {"user1@example.com": "user1"}}
    seen = clean["tools"][0]["function"]
    assert seen["name"] == "mcp__server1__assign"
    assert seen["parameters"]["properties"] == {
        "name": {"type": "string", "enum": ["user1"]},
        "user1": {"type": "object"},
    }


def test_placeholders_are_numbered_by_first_appearance_in_the_row():
    other = SECRET[::-1]
    row = chat({"role": "user", "content": f'a_token="{other}" b_token="{SECRET}" {other}'})
    clean, _ = redact_row(row, Identity())
    assert clean["messages"][0]["content"] == 'a_token="<SECRET_1>" b_token="<SECRET_2>" <SECRET_1>'


def test_a_row_is_redacted_the_same_wherever_it_stands():
    row = chat({"role": "user", "content": f"mail ada@harbour.net, then bob@harbour.net {SECRET}"})
    assert redact_row(row, MIRA) == redact_row(row, MIRA)


def test_addresses_keep_their_shape_and_open_ones_stay():
    text = "ada@harbour.net Bob.Lind@harbour.co ADA@harbour.net git@github.com x@example.com"
    clean, counts = redact_text(text)
    assert clean == (
        "user1@example.com user2@example.com user1@example.com git@github.com x@example.com"
    )
    assert counts["email"] == 3


def test_what_is_no_address():
    text = "icon@2x.png @pytest.fixture a@b pkg@1.2.3 user@host.py noreply@anthropic.com"
    assert redact_text(text) == (text, {})


def test_account_names_are_replaced_as_words_in_any_case():
    text = "/home/mira/x -home-mira-x MIRA mira_ admiral mirage"
    clean, _ = redact_text(text, MIRA)
    assert clean == "/home/user1/x -home-user1-x user1 user1_ admiral mirage"


def test_homes_of_others_are_replaced_too():
    text = r"/Users/pat/a /home/lee/b C:\Users\Kim\c https://x.io/home/page/1 /home/user/d"
    clean, _ = redact_text(text)
    assert clean == (
        r"/Users/user1/a /home/user2/b C:\Users\user3\c https://x.io/home/page/1 /home/user/d"
    )


def test_signed_names_are_replaced_and_programs_keep_theirs():
    text = (
        "Author: Ada Lind <ada@harbour.net>\nReview by Ada Lind\n"
        "Co-Authored-By: Claude <noreply@anthropic.com>"
    )
    clean, counts = redact_text(text)
    assert "Ada" not in clean and "Claude <noreply@anthropic.com>" in clean
    assert clean.startswith("Author: Person 1 <user1@example.com>\nReview by Person 1\n")
    assert counts["person_name"] == 2


def test_roles_tool_names_and_meta_are_no_text():
    someone = Identity(("tool", "assistant", "bash"))
    row = chat(
        {"role": "assistant", "content": "bash", "tool_calls": [call("Bash", name="bash")]},
        {"role": "tool", "content": "", "tool_call_id": "call_1", "name": "Bash"},
    )
    clean, _ = redact_row(row, someone)
    said, answer = clean["messages"]
    assert said["role"] == "assistant" and answer["role"] == "tool" and answer["name"] == "Bash"
    assert said["tool_calls"][0]["function"] == {"name": "Bash", "arguments": {"name": "user1"}}
    assert clean["meta"] == {"group": "mira"}


def test_the_row_given_is_left_as_it_was():
    row = chat({"role": "user", "content": f"API_KEY='{SECRET}'"})
    redact_row(row, MIRA)
    assert SECRET in row["messages"][0]["content"]


def test_text_rows_are_redacted():
    row = {"id": "t", "task": "text", "text": f"API_KEY='{SECRET}'", "meta": {}}
    assert redact_row(row, MIRA)[0]["text"] == "API_KEY='<SECRET_1>'"


def test_learning_who():
    found = learn(
        ["/home/mira/x", "/Users/j.doe", r"C:\Users\Bob\x", "-Users-alice-work", "/srv/x"]
    )
    assert found.users == ("alice", "bob", "j.doe", "mira")


def test_common_words_are_no_names():
    assert learn(["/home/user/x", "/Users/dev", "/home/ab/x", "/home/src"]).users == ()
    assert not learn([]).is_in("anything") and not learn([]).users


PLAIN = st.text(
    alphabet=string.ascii_letters + string.digits + " \n.,:/=-'\"@<>_\\é日", max_size=200
)


@given(st.lists(PLAIN, max_size=4), st.lists(PLAIN, max_size=4))
def test_redaction_is_total_and_settles(before, after):
    texts = [*before, f'secret_key = "{SECRET}"', *after]
    row = chat(*({"role": "user", "content": text} for text in texts))
    once, _ = redact_row(row, MIRA)
    assert SECRET not in str(once)
    assert len(once["messages"]) == len(texts)
    twice, _ = redact_row(once, MIRA)
    assert SECRET not in str(twice)
