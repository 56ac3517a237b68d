package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/artifact"
)

func answer(target, file string, verdict artifact.Verdict, reasons ...artifact.Reason) artifact.Answer {
	return artifact.Answer{Target: target, File: file, Kind: "program", Verdict: verdict, Reasons: reasons}
}

func because1(verdict artifact.Verdict, text string, ways ...string) artifact.Reason {
	return artifact.Reason{Verdict: verdict, Kind: "missing-version", Text: text, Ways: ways}
}

// answered puts answers together as check does.
func checkedOf(answers ...artifact.Answer) *envs.Checked {
	c := &envs.Checked{Version: envs.CheckedVersion}
	var targets []string
	byTarget := map[string][]artifact.Answer{}
	for _, a := range answers {
		if byTarget[a.Target] == nil {
			targets = append(targets, a.Target)
		}
		byTarget[a.Target] = append(byTarget[a.Target], a)
	}
	for _, t := range targets {
		c.Add(envs.CheckedTarget{Name: t}, byTarget[t])
	}
	return c
}

func TestPrintChecked(t *testing.T) {
	old := because1(artifact.Fails, "libc.so.6 has no GLIBC_2.34", "build it for acme")
	opens := because1(artifact.Unproven, "it calls dlopen")
	alone := answer("acme@3", "app", artifact.Starts, because1(artifact.Starts, "it is for Linux 3.2.0 or newer"))
	alone.Travels = []string{"lib/libown.so.1"}
	for _, test := range []struct {
		c      *envs.Checked
		strict bool
		want   string
	}{
		{checkedOf(alone), false, "app starts on acme@3\n  with lib/libown.so.1, which it brings along\n  it is for Linux 3.2.0 or newer\n"},
		{checkedOf(answer("acme@3", "a\x1bpp", artifact.Fails, old)), false,
			"a?pp fails on acme@3\n  libc.so.6 has no GLIBC_2.34\n    → build it for acme\n"},
		{checkedOf(answer("/", "app", artifact.Unproven, opens)), true, "app is unproven on /\n  it calls dlopen\n--strict: what is unproven fails\n"},
		{checkedOf(answer("acme@3", "a", artifact.Starts), answer("acme@3", "b", artifact.Fails, old), answer("acme@3", "c", artifact.Fails, old),
			answer("globex@1", "a", artifact.Unproven, opens), answer("globex@1", "b", artifact.Starts)), false,
			`FILE  acme@3  globex@1
a     starts  unproven
b     fails   starts
c     fails   -

fails on acme@3: b, c
  libc.so.6 has no GLIBC_2.34
    → build it for acme

unproven on globex@1: a
  it calls dlopen

3 files on 2 targets: 2 start, 2 fail, 1 is unproven
`},
		{checkedOf(answer("a@3", "a", artifact.Starts), answer("a@3", "b", artifact.Starts), answer("globex@1", "a", artifact.Starts),
			answer("globex@1", "b", artifact.Starts), answer("c@1", "a", artifact.Starts)), false,
			"TARGET    a       b\na@3       starts  starts\nglobex@1  starts  starts\nc@1       starts  -\n2 files on 3 targets: 5 start\n"},
	} {
		var out bytes.Buffer
		if err := printChecked(&out, test.c, test.strict); err != nil || out.String() != test.want {
			t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), test.want)
		}
	}
}

// Many files are no wall: what starts is counted, and equal reasons are told once.
func TestPrintManyChecked(t *testing.T) {
	var answers []artifact.Answer
	for i := range 700 {
		file := fmt.Sprintf("bin/%d", i)
		if i%7 > 0 {
			answers = append(answers, answer("acme@3", file, artifact.Starts))
			continue
		}
		answers = append(answers, answer("acme@3", file, artifact.Fails,
			because1(artifact.Fails, fmt.Sprintf("%s needs GLIBC_2.%d", file, 34+i%3))))
	}
	var out bytes.Buffer
	if err := printChecked(&out, checkedOf(answers...), false); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{"\nand 600 more, which start\n", "\nfails on acme@3: bin/0, bin/21, bin/42 and 31 more\n  bin/0 needs GLIBC_2.34\n",
		"\n700 files on acme@3: 600 start, 100 fail\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q isn't said in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "fails on"); n != 3 {
		t.Errorf("%d reasons are told of 3", n)
	}
}

func TestCheckedAsGitHubHasIt(t *testing.T) {
	c := checkedOf(answer("acme@3", "a,b:c", artifact.Fails, because1(artifact.Fails, "100% wrong\n::error::no", "mend it")),
		answer("acme@3", "d", artifact.Unproven, because1(artifact.Unproven, "who knows")), answer("acme@3", "e", artifact.Starts))
	want := "::error file=a%2Cb%3Ac,title=a%2Cb%3Ac fails on acme@3::100%25 wrong?::error::no%0A→ mend it\n" +
		"::%s file=d,title=d is unproven on acme@3::who knows\n3 files on acme@3: 1 starts, 1 fails, 1 is unproven\n"
	for strict, command := range map[bool]string{false: "warning", true: "error"} {
		var out bytes.Buffer
		if err := githubChecked(&out, c, strict); err != nil || out.String() != strings.Replace(want, "%s", command, 1) {
			t.Errorf("%v\n%s", err, out.String())
		}
	}
}

func TestCheckedAsJUnitHasIt(t *testing.T) {
	c := checkedOf(answer("acme@3", "a<\x00>", artifact.Fails, because1(artifact.Fails, "no ]]> \"here\"")),
		answer("acme@3", "b", artifact.Unproven, because1(artifact.Unproven, "who knows")), answer("globex@1", "b", artifact.Starts))
	for strict, failures := range map[bool]int{false: 1, true: 2} {
		var out bytes.Buffer
		if err := junitChecked(&out, c, strict); err != nil {
			t.Fatal(err)
		}
		var got junitSuites
		if err := xml.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if got.Tests != 3 || got.Failures != failures || got.Skipped != 2-failures || len(got.Suites) != 2 || got.Suites[0].Tests != 2 {
			t.Errorf("got %+v", got)
		}
		if k := got.Suites[0].Cases[0]; k.Name != "a<?>" || k.Failure == nil || k.Failure.Message != `no ]]> "here"` {
			t.Errorf("got %+v", k)
		}
	}
}

// checkSchema is testdata/check.schema.json.
func checkSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("../../testdata/check.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("check.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("check.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// followsSchema reads an answer of check as a program would.
func followsSchema(t *testing.T, text []byte) (c envs.Checked) {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = checkSchema(t).Validate(doc)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Error(err)
	}
	return c
}

// fill gives every field of an answer a value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int:
		v.SetInt(1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// Whatever can be in an answer is in the schema, by its name.
func TestCheckSchema(t *testing.T) {
	var full envs.Checked
	fill(reflect.ValueOf(&full).Elem())
	full.Version, full.Verdict, full.Targets[0].Lock = envs.CheckedVersion, artifact.Fails, "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	full.Answers[0].Reasons[0].Elsewhere[0].Archive = ""
	full.Answers[0].Verdict, full.Answers[0].Reasons[0].Verdict, full.Answers[0].Reasons[0].When = artifact.Fails, artifact.Fails, "call"
	for _, c := range []*envs.Checked{&full, checkedOf(answer("/", "a", artifact.Starts))} {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		followsSchema(t, text)
	}
}
