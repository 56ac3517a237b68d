package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs"
	"github.com/stead-env/stead/envs/artifact"
)

// compile makes a program of C in the project, for the C library that the host has, too.
func (i inside) compile(name, source string, args ...string) {
	i.t.Helper()
	out := i.path("project", name)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		i.t.Fatal(err)
	}
	from := i.path("source", filepath.Base(name)+".c")
	i.write("source/"+filepath.Base(name)+".c", source)
	i.must(exec.Command("gcc", append([]string{"-o", out, from}, args...)...))
}

// insideVerdicts builds what starts, what doesn't, and what can't be known.
func insideVerdicts(i inside) {
	i.compile("made/ok", `#include <stdio.h>
		int main(void) { puts("it runs"); return 0; }`)
	i.compile("made/libgone.so.1", "int gone(void) { return 0; }", "-shared", "-fPIC", "-Wl,-soname,libgone.so.1")
	i.compile("made/lacking", "int gone(void); int main(void) { return gone(); }", i.path("project/made/libgone.so.1"))
	i.compile("made/together", "int gone(void); int main(void) { return gone(); }", i.path("project/made/libgone.so.1"), "-Wl,-rpath,$ORIGIN")
	i.compile("made/opens", `#include <dlfcn.h>
		int main(int n, char **a) { return dlopen(n > 1 ? a[1] : "./libgone.so.1", RTLD_NOW) == 0; }`, "-ldl")
	for _, test := range []struct {
		name string
		run  func(i inside)
	}{
		{"starts", verdictStarts}, {"fails", verdictFails}, {"brings", verdictBrings}, {"loads", verdictLoads}, {"elsewhere", verdictElsewhere},
		{"exit", verdictExit}, {"unchecked", verdictUnchecked},
	} {
		i.t.Run(test.name, func(t *testing.T) {
			inner := *i.real
			inner.t = t
			test.run(inside{small: &small{&inner, i.mirror}})
		})
	}
}

// judged builds acme with that under [build], and gives what artifacts.json says.
func (i *inside) judged(code int, lines ...string) (list envs.Artifacts, out, errs string) {
	i.t.Helper()
	i.project = "targets = [\"acme\"]\n[build]\ncommand = [\"sh\", \"-c\", \":\"]\n" + strings.Join(lines, "\n") + "\n"
	out, errs, got := result(i.session("build", "acme"))
	if got != code {
		i.t.Fatalf("exit code %d, not %d\n%s%s", got, code, out, errs)
	}
	if err := json.Unmarshal([]byte(i.read("project/dist/acme/artifacts.json")), &list); err != nil {
		i.t.Fatal(err)
	}
	return list, out, errs
}

func verdictStarts(i inside) {
	list, out, errs := i.judged(0, `artifacts = ["made/ok"]`, `trial = ["made/ok"]`)
	if list.Verdict != artifact.Starts || list.Artifacts[0].Verdict != artifact.Starts || !strings.Contains(out, "; it starts there\n") {
		i.t.Errorf("got %+v\n%s", list, out)
	}
	t := list.Trial
	if t == nil || !t.OK() || len(t.Programs) != 1 || t.Programs[0].Path != "ok" || !t.Programs[0].Started || !strings.Contains(errs, "it runs\n") {
		i.t.Errorf("the trial is %+v\n%s", t, errs)
	}
	out, errs, code := result(i.session("check", "--json", i.path("project/dist/acme/ok")))
	if c := followsSchema(i.t, []byte(out)); code != 0 || len(c.Answers) != 1 || c.Answers[0].Verdict != artifact.Starts || c.Targets[0].Name != "acme@1" {
		i.t.Errorf("exit code %d, %s%s", code, out, errs)
	}
}

func verdictFails(i inside) {
	list, out, _ := i.judged(3, `artifacts = ["made/lacking", "made/ok"]`)
	if list.Verdict != artifact.Fails || !strings.Contains(out, "; 1 of 2 won't start there\nfails on acme@1: dist/acme/lacking\n") || !strings.Contains(out, "libgone.so.1") ||
		strings.Contains(out, "build it in") {
		i.t.Errorf("got %+v\n%s", list, out)
	}
	for _, a := range list.Artifacts {
		if want := map[string]artifact.Verdict{"lacking": artifact.Fails, "ok": artifact.Starts}[a.Path]; a.Verdict != want {
			i.t.Errorf("%s: %s", a.Path, a.Verdict)
		}
	}
	// The loader says the same.
	list, out, _ = i.judged(3, `artifacts = ["made/lacking"]`, `trial = ["sh", "-c", "made/ok && exec made/lacking"]`)
	if t := list.Trial; t == nil || t.ExitCode != 127 || len(t.Programs) != 1 || t.Programs[0].Path != "lacking" || t.Programs[0].Started ||
		!strings.Contains(out, ": its trial failed: it ended with exit code 127; ") || !strings.Contains(out, "  | made/lacking: error while loading") {
		i.t.Errorf("the trial is %+v\n%s", t, out)
	}
}

// What an artifact brings along travels with it.
func verdictBrings(i inside) {
	list, _, _ := i.judged(0, `artifacts = ["made/together", "made/libgone.so.1"]`, `trial = ["made/together"]`)
	for _, a := range list.Answers {
		if a.File == "together" && (len(a.Travels) != 1 || a.Travels[0] != "libgone.so.1") {
			i.t.Errorf("got %+v", a)
		}
	}
}

// What is loaded by name isn't known, until somebody says so, or a trial saw it.
func verdictLoads(i inside) {
	list, out, _ := i.judged(0, `artifacts = ["made/opens"]`)
	if list.Verdict != artifact.Unproven || !strings.Contains(out, "; whether it starts there is unproven\nunproven on acme@1: dist/acme/opens\n") {
		i.t.Errorf("got %+v\n%s", list, out)
	}
	if list, _, _ = i.judged(0, `artifacts = ["made/opens"]`, `dlopen = ["libc.so.6"]`); list.Verdict != artifact.Starts {
		i.t.Errorf("got %+v", list)
	}
	if list, _, _ = i.judged(3, `artifacts = ["made/opens"]`, `dlopen = ["libnowhere.so.7"]`); list.Verdict != artifact.Fails {
		i.t.Errorf("got %+v", list)
	}
	list, _, _ = i.judged(0, `artifacts = ["made/opens"]`, `trial = ["made/opens", "libc.so.6"]`)
	if list.Verdict != artifact.Starts {
		i.t.Errorf("got %+v", list.Answers)
	}
	if out, errs, code := result(i.session("check", "--strict", i.path("project/dist/acme/opens"))); code != 0 {
		i.t.Errorf("a check forgets what the trial saw: exit code %d, %s%s", code, out, errs)
	}
}

// What starts where it was built, and not where it will lie, is no mistake of ours.
func verdictElsewhere(i inside) {
	list, out, errs := i.judged(3, `artifacts = ["made/together"]`, `trial = ["made/together"]`)
	if list.Verdict != artifact.Fails || list.Trial == nil || !list.Trial.OK() || strings.Contains(errs, "error:") {
		i.t.Errorf("got %+v\n%s%s", list, out, errs)
	}
}

func verdictExit(i inside) {
	list, out, _ := i.judged(3, `artifacts = ["made/ok"]`, `trial = ["sh", "-c", "made/ok; echo so it goes; exit 7"]`)
	if list.Verdict != artifact.Fails || list.Artifacts[0].Verdict != artifact.Starts || list.Trial.ExitCode != 7 ||
		!strings.Contains(out, "it ended with exit code 7; its output is in ") || !strings.Contains(out, "  | so it goes\n") {
		i.t.Errorf("got %+v\n%s", list, out)
	}
	list, out, _ = i.judged(3, `artifacts = ["made/ok"]`, `trial = ["made/nothing"]`)
	if list.Verdict != artifact.Fails || list.Trial.Error == "" || !strings.Contains(out, "its trial failed: it could not be run: ") {
		i.t.Errorf("got %+v\n%s", list, out)
	}
}

func verdictUnchecked(i inside) {
	i.project = "targets = [\"acme\"]\n[build]\ncommand = [\"sh\", \"-c\", \":\"]\nartifacts = [\"made/lacking\"]\ntrial = [\"made/lacking\"]\n"
	if out, errs, code := result(i.session("build", "--no-check")); code != 0 || strings.Contains(i.read("project/dist/acme/artifacts.json"), "verdict") {
		i.t.Errorf("exit code %d, %s%s", code, out, errs)
	}
}
