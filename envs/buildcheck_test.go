package envs

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/stead-env/stead/envs/artifact"
)

// What a trial did is held against the verdict, where it says something about it.
func TestDisagreement(t *testing.T) {
	fails := func(kind, when string) artifact.Answer {
		return artifact.Answer{File: "app", Verdict: artifact.Fails, Reasons: []artifact.Reason{{Verdict: artifact.Fails, Kind: kind, When: when}}}
	}
	starts := artifact.Answer{File: "app", Verdict: artifact.Starts}
	for _, test := range []struct {
		answer  artifact.Answer
		started bool
		want    bool
	}{
		{starts, true, false}, {starts, false, true},
		{fails("missing-version", "load"), false, false}, {fails("missing-version", "load"), true, true},
		{fails("missing-symbol", "call"), true, false},                          // it wasn't called
		{fails("cpu", ""), true, false}, {fails("kernel", "load"), true, false}, // this machine has others
		{artifact.Answer{File: "app", Verdict: artifact.Unproven}, true, false},
		{artifact.Answer{File: "app", Verdict: artifact.Unproven}, false, false},
		{artifact.Answer{File: "other", Verdict: artifact.Starts}, false, false},
	} {
		list := Artifacts{Target: "acme", Answers: []artifact.Answer{test.answer},
			Trial: &Trial{Programs: []TrialProgram{{Path: "app", Started: test.started}}}}
		got := list.disagreement(Release{Target: "acme", Number: 3})
		if (got != nil) != test.want {
			t.Errorf("%+v, started %v: got %v", test.answer, test.started, got)
		}
		if got != nil && (got.Artifact != "dist/acme/app" || got.Error() == "" || got.Hint() == "") {
			t.Errorf("got %+v", got)
		}
	}
}

// Answers are told by the artifacts' places; one for what a package holds counts for it.
func TestPlaced(t *testing.T) {
	list := Artifacts{Artifacts: []Artifact{{Path: "app"}, {Path: "x.deb"}, {Path: "README"}}, Answers: []artifact.Answer{
		{File: "/p/dist/.acme.new/app", Verdict: artifact.Starts, Travels: []string{"/p/dist/.acme.new/lib/l.so"}},
		{File: "/p/dist/.acme.new/x.deb: /usr/bin/x", Verdict: artifact.Unproven, Reasons: []artifact.Reason{
			{By: "/p/dist/.acme.new/x.deb: /usr/bin/x", Text: "of /p/dist/.acme.new/x.deb: /usr/bin/x"}}},
		{File: "/p/dist/.acme.new/x.deb", Verdict: artifact.Starts},
	}}
	list.placed("/p/dist/.acme.new")
	for i, want := range []artifact.Verdict{artifact.Starts, artifact.Unproven, ""} {
		if got := list.Artifacts[i].Verdict; got != want {
			t.Errorf("%s: got %q", list.Artifacts[i].Path, got)
		}
	}
	if r := list.Answers[1].Reasons[0]; r.By != "x.deb: /usr/bin/x" || r.Text != "of x.deb: /usr/bin/x" {
		t.Errorf("got %+v", r)
	}
	if list.Verdict != artifact.Unproven || list.Answers[0].File != "app" || list.Answers[0].Travels[0] != "lib/l.so" || list.Answers[1].File != "x.deb: /usr/bin/x" {
		t.Errorf("got %+v", list)
	}
}

// Which artifact a program is that a loader or a command names.
func TestArtifactNamed(t *testing.T) {
	found := map[string]string{"app": "build/app", "bin/tool": "build/bin/tool", "a/same": "build/a/same", "b/same": "build/b/same"}
	for name, want := range map[string]string{"/src/build/app": "app", "./build/app": "app", "build/app": "app", "./app": "app", "../tool": "bin/tool",
		"./same": "", "/usr/bin/app": "", "app": "", "./build/b/same": "b/same", "/src/build/none": ""} {
		if got := artifactNamed(name, found, "/src"); got != want {
			t.Errorf("%s is %q, not %q", name, got, want)
		}
	}
}

// What loaders say when nothing tells more of them: musl's always, glibc's in a session
// that brings no files back.
func TestLoaderGaveUp(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	for text, want := range map[string]string{
		"build/app: error while loading shared libraries: libx.so.1: cannot open shared object file: No such file or directory\n":               "build/app",
		"hello\n./app: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by ./app)\n":                                   "./app",
		"./app: symbol lookup error: ./app: undefined symbol: gone\n":                                                                           "./app",
		"Error loading shared library libx.so.1: No such file or directory (needed by ./app)\nError relocating ./app: gone: symbol not found\n": "./app",
		"Error relocating ./app: gone: symbol not found\n":                                                                                      "./app",
		"an error while loading shared libraries: no\n":                                                                                         "",
	} {
		if err := os.WriteFile(log, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := loaderGaveUp(log); got != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
	if err := os.Remove(log); err != nil || loaderGaveUp(log) != "" {
		t.Error(err)
	}
}

// What ran in a trial is told by loaders. A static program has none, nor does one tell of
// itself where musl loads it: whether it started is known, and what it loaded isn't.
func TestTriedPrograms(t *testing.T) {
	found := map[string]string{"app": "build/app", "tool": "build/tool"}
	for _, test := range []struct {
		trial  Trial
		list   []loads
		gaveUp string
		want   []TrialProgram
	}{
		{Trial{Command: []string{"build/app"}}, []loads{{"build/app", true, []string{"b", "a", "b"}}}, "", []TrialProgram{{"app", true, []string{"a", "b"}}}},
		{Trial{Command: []string{"build/app"}}, nil, "", []TrialProgram{{"app", true, nil}}},
		{Trial{Command: []string{"build/app"}, ExitCode: 127}, nil, "build/app", []TrialProgram{{"app", false, nil}}},
		{Trial{Command: []string{"build/app"}, ExitCode: 126, Error: "it is for another machine"}, nil, "", []TrialProgram{{"app", false, nil}}},
		{Trial{Command: []string{"sh", "-c", "…"}}, []loads{{"sh", true, nil}, {"./build/tool", false, nil}, {"./build/tool", true, nil}}, "",
			[]TrialProgram{{"tool", true, []string{}}}},
		{Trial{Command: []string{"sh", "-c", "…"}}, []loads{{"./build/tool", false, nil}}, "", []TrialProgram{}},
		{Trial{Command: []string{"sh", "-c", "…"}}, []loads{{"./build/tool", false, nil}}, "./build/tool", []TrialProgram{{"tool", false, []string{}}}},
	} {
		got := triedPrograms(&test.trial, test.list, found, "/src", test.gaveUp)
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%+v: got %+v, want %+v", test.trial, got, test.want)
		}
	}
	trial := &Trial{Programs: []TrialProgram{{"app", true, nil}, {"tool", true, []string{}}, {"not", false, []string{"x"}}}}
	if got := trial.seen(); len(got) != 1 || got["/.stead-artifact/tool"] == nil {
		t.Errorf("it saw %v", got)
	}
}
