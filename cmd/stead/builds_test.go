package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stead-env/stead/envs"
)

// insideBuilds builds for three targets of one host.
func insideBuilds(i inside) {
	for _, name := range []string{"globex", "initech"} {
		i.must(i.session("snapshot", i.host, name, "--yes"))
	}
	for _, test := range []struct {
		name string
		run  func(i inside)
	}{
		{"all", buildsAll}, {"failing", buildsFailing}, {"kept", buildsKept}, {"view", buildsView}, {"ended", buildsEnded},
		{"jobs", buildsJobs}, {"again", buildsAgain}, {"odd", buildsOdd},
	} {
		i.t.Run(test.name, func(t *testing.T) {
			inner := *i.real
			inner.t = t
			test.run(inside{small: &small{&inner, i.mirror}})
		})
	}
}

// buildsOf is a project of three targets with that under [build].
func buildsOf(lines ...string) string {
	return "targets = [\"acme\", \"globex\", \"initech\"]\n[build]\n" + strings.Join(lines, "\n") + "\n"
}

func shell(script string) string { return `["sh", "-c", ` + strconv.Quote(script) + `]` }

func (i inside) read(name string) string {
	i.t.Helper()
	text, err := os.ReadFile(i.path(name))
	if err != nil {
		i.t.Fatal(err)
	}
	return string(text)
}

func buildsAll(i inside) {
	i.project = buildsOf("command = "+shell(`set -e; mkdir -p out/deep; echo $STEAD_TARGET@$STEAD_RELEASE >out/name; echo '#!/bin/sh' >out/deep/tool
		busybox chmod 750 out/deep/tool; echo $SOURCE_DATE_EPOCH >out/date; echo "said b""y $STEAD_TARGET"`),
		`artifacts = ["out/**"]`)
	out, errs, code := result(i.session("build", "--all"))
	if code != 0 || strings.Count(out, "\n") != 3 || strings.Contains(errs, "said by") {
		i.t.Fatalf("exit code %d, %s%s", code, out, errs)
	}
	newest, err := os.Stat(i.path("project/stead.lock")) // all else is dated as the archive is
	if err != nil {
		i.t.Fatal(err)
	}
	for _, target := range []string{"acme", "globex", "initech"} {
		if got := i.read("project/dist/" + target + "/name"); got != target+"@1\n" {
			i.t.Errorf("%s: got %q", target, got)
		}
		if got := i.read("project/dist/" + target + "/date"); got != strconv.FormatInt(newest.ModTime().Unix(), 10)+"\n" {
			i.t.Errorf("%s: the date is %q", target, got)
		}
		if fi, err := os.Stat(i.path("project/dist", target, "deep/tool")); err != nil || fi.Mode() != 0o750 {
			i.t.Errorf("%s: got %v, %v", target, fi.Mode(), err)
		}
		var list envs.Artifacts
		if err := json.Unmarshal([]byte(i.read("project/dist/"+target+"/artifacts.json")), &list); err != nil || list.Target != target || len(list.Artifacts) != 3 {
			i.t.Errorf("%s: got %+v, %v", target, list, err)
		}
		_, log, _ := strings.Cut(errs, target+": built in ")
		_, log, _ = strings.Cut(log, "log: ")
		log, _, _ = strings.Cut(log, "\n")
		if text, err := os.ReadFile(log); err != nil || !strings.HasSuffix(string(text), "\nsaid by "+target+"\n") {
			i.t.Errorf("%s: the log is %q, %v", target, text, err)
		}
	}
	if _, _, code := result(i.session("build", "--all", "acme")); code != 2 {
		i.t.Errorf("--all and a name: exit code %d", code)
	}
}

func buildsFailing(i inside) {
	i.remove("project/dist")
	i.project = buildsOf("command = "+shell(`[ $STEAD_TARGET != globex ] || { echo that is wrong; exit 5; }; echo x >app`), `artifacts = ["app"]`)
	out, errs, code := result(i.session("build", "--keep-going", "--json"))
	var built []envs.Built
	if err := json.Unmarshal([]byte(out), &built); err != nil || code != 1 || len(built) != 3 {
		i.t.Fatalf("exit code %d, %v\n%s%s", code, err, out, errs)
	}
	for _, b := range built {
		if failed := b.Target == "globex"; failed != (b.Error != "") || failed != (b.Dir == "") {
			i.t.Errorf("got %+v", b)
		}
	}
	for _, want := range []string{"globex: failed after ", "  | that is wrong\n", "/build.log\nhint: stead enter --view globex\n",
		"error: building for globex: sh -c ", "acme: built in "} {
		if !strings.Contains(errs, want) {
			i.t.Errorf("%q isn't said in\n%s", want, errs)
		}
	}
	if strings.Count(errs, "stead enter --view") != 1 || strings.Count(errs, "globex/build.log") != 1 {
		i.t.Errorf("something is said twice in\n%s", errs)
	}
	// With one at a time, what comes after isn't begun.
	i.project = strings.Replace(i.project, "globex ]", "acme ]", 1)
	i.remove("project/dist")
	out, errs, code = result(i.session("build", "--fail-fast", "--at-once", "1"))
	if code != 1 || out != "" || !strings.Contains(errs, "initech: stopped") {
		i.t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	if _, err := os.Stat(i.path("project/dist")); err == nil {
		i.t.Error("something was built")
	}
}

// What fetch brings, and what is kept: caches, and the home until it is cleaned.
func buildsKept(i inside) {
	const devices = `n=0; while read -r line; do n=$((n+1)); done </proc/net/dev; echo $n`
	i.project = buildsOf("fetch = "+shell(devices+` >fetched; echo f >>~/.cache/own; echo f >>/var/cache/deep/own; echo f >>~/mine; echo f >>left`),
		"command = "+shell(devices+` >built; cat ~/.cache/own /var/cache/deep/own >kept; cat ~/mine left >home`),
		`artifacts = ["fetched", "built", "kept", "home"]`, `caches = ["~/.cache", "/var/cache/deep"]`)
	for _, test := range []struct {
		flag       string
		kept, home int // lines of each of two files
	}{{"", 1, 1}, {"", 2, 2}, {"--clean", 3, 1}, {"--clean=caches", 1, 1}} {
		_, errs, code := result(i.session(slices.DeleteFunc([]string{"build", "acme", test.flag}, func(s string) bool { return s == "" })...))
		if code != 0 {
			i.t.Fatalf("exit code %d\n%s", code, errs)
		}
		if said := strings.Contains(errs, "acme@1: removed its view: "); said != (test.flag != "") {
			i.t.Errorf("%s: %s", test.flag, errs)
		}
		if kept, home := i.read("project/dist/acme/kept"), i.read("project/dist/acme/home"); kept != strings.Repeat("f\n", 2*test.kept) || home != strings.Repeat("f\n", 2*test.home) {
			i.t.Errorf("%s: kept %q, and at home %q", test.flag, kept, home)
		}
	}
	if got := i.read("project/dist/acme/built"); got != "3\n" {
		i.t.Errorf("command has a network: %q", got)
	}
	here, _ := os.ReadFile("/proc/net/dev")
	if got := i.read("project/dist/acme/fetched"); got != strconv.Itoa(strings.Count(string(here), "\n"))+"\n" {
		i.t.Errorf("fetch has the network %q", got)
	}
	i.project = buildsOf(`command = ["true"]`, `caches = ["relative"]`)
	if _, errs, code := result(i.session("build", "acme")); code != 1 || !strings.Contains(errs, "making cache relative: ") {
		i.t.Errorf("exit code %d, %s", code, errs)
	}
}

func buildsView(i inside) {
	i.project = buildsOf("command = "+shell("echo half >made; exit 3"), `caches = ["~/kept"]`)
	i.write("project/own.c", "own\n")
	if _, _, code := result(i.session("build", "acme", "--clean")); code != 1 {
		i.t.Fatalf("exit code %d", code)
	}
	enter := func(script string, flags ...string) (string, int) {
		cmd := i.session(append([]string{"enter", "--view", "acme"}, flags...)...)
		cmd.Stdin = strings.NewReader(script)
		out, errs, code := result(cmd)
		if errs != "" {
			i.t.Error(errs)
		}
		return out, code
	}
	out, code := enter("pwd; cat made own.c; echo $STEAD_TARGET $MAKEFLAGS; ls -d ~/kept; [ -d dist ] || echo no dist; echo by hand >>own.c; exit 7")
	if want := i.path("project") + "\nhalf\nown\nacme -j"; code != 7 || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "/kept\nno dist\n") {
		i.t.Errorf("exit code %d, %q", code, out)
	}
	if out, _ = enter("cat own.c", "--network", "host"); out != "own\nby hand\n" {
		i.t.Errorf("the view has %q", out)
	}
	if got := i.read("project/own.c"); got != "own\n" {
		i.t.Errorf("the project has %q", got)
	}
	i.project = buildsOf(`command = ["cat", "own.c"]`)
	if _, errs, code := result(i.session("build", "acme")); code != 0 || !strings.Contains(errs, "\nown\n") || strings.Contains(errs, "by hand") {
		i.t.Errorf("exit code %d, %s", code, errs)
	}
}

// A signal ends all builds, and their views go on where they were.
func buildsEnded(i inside) {
	i.project = "targets = [\"acme\", \"globex\", \"initech\"]\n[env]\nmounts = [\"../data:/srv/data\"]\n[build]\ncommand = " +
		shell("echo half >made; echo $STEAD_TARGET >/srv/data/begun-$STEAD_TARGET; exec busybox sleep 600") + "\n"
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		i.remove("data")
		i.write("data/there", "")
		var errs bytes.Buffer
		cmd := i.session("build", "--jobs", "3", "--at-once", "3")
		cmd.Stderr = &errs
		if err := cmd.Start(); err != nil {
			i.t.Fatal(err)
		}
		for begun := []string(nil); len(begun) < 3; time.Sleep(10 * time.Millisecond) {
			begun, _ = filepath.Glob(i.path("data/begun-*"))
		}
		if err := cmd.Process.Signal(sig); err != nil {
			i.t.Fatal(err)
		}
		cmd.Wait() //nolint:errcheck // its exit code tells
		if text := errs.String(); cmd.ProcessState.ExitCode() != 1 || strings.Count(text, ": stopped after ") != 3 || !strings.HasSuffix(text, "error: interrupted\n") {
			i.t.Errorf("%v: exit code %d\n%s", sig, cmd.ProcessState.ExitCode(), text)
		}
		if left, err := os.ReadDir(i.path("store/sessions")); err != nil || len(left) != 0 {
			i.t.Errorf("%v: sessions left %v, %v", sig, left, err)
		}
	}
	if _, errs, code := result(i.session("build", "--keep-going", "--", "cat", "made")); code != 0 {
		i.t.Errorf("exit code %d\n%s", code, errs)
	}
}

// Builds share their jobs: never more than there are, and what one leaves another takes.
func buildsJobs(i inside) {
	i.remove("data")
	i.write("data/there", "")
	// Each job of globex waits until three run, which is more than half of four. Nobody
	// else has any.
	i.write("project/Makefile", `jobs := 1 2 3 4 5 6 7 8
ifneq ($(STEAD_TARGET),globex)
jobs := 1
endif
all: $(jobs:%=job-%)
job-%:
	@echo + >>/srv/data/log; echo x >/srv/data/$(STEAD_TARGET)-$*; \
	n=0; while [ $(STEAD_TARGET) = globex ] && [ ! -e /srv/data/three ]; do \
		set -- /srv/data/globex-*; [ $$# -lt 3 ] || echo x >/srv/data/three; \
		n=$$((n+1)); [ $$n -lt 600 ] || exit 9; busybox sleep 0.1; \
	done; busybox sleep 0.05; echo - >>/srv/data/log
`)
	for _, command := range []string{`["make", "-r"]`, shell("make -r")} {
		i.remove("data")
		i.write("data/there", "")
		i.project = "targets = [\"acme\", \"globex\", \"initech\"]\n[env]\nmounts = [\"../data:/srv/data\"]\n[build]\ncommand = " + command + "\n"
		if _, errs, code := result(i.session("build", "--jobs", "4", "--at-once", "2", "--keep-going")); code != 0 {
			i.t.Fatalf("exit code %d\n%s", code, errs)
		}
		running, most := 0, 0
		for line := range strings.Lines(i.read("data/log")) {
			running += map[byte]int{'+': 1, '-': -1}[line[0]]
			most = max(most, running)
		}
		if most > 4 || most < 3 {
			i.t.Errorf("%s: %d jobs ran at once, with four for all", command, most)
		}
	}
	// A command's own choice stays, and so does the project's.
	i.project = buildsOf("command = " + shell(`echo "flags $MAKEFLAGS jobs $STEAD_JOBS"; true -j7`))
	if _, errs, _ := result(i.session("build", "acme", "--jobs", "6")); !strings.Contains(errs, "\nflags -j6 jobs 6\n") {
		i.t.Error(errs)
	}
	i.project += "[env.variables]\nMAKEFLAGS = \"-k\"\n"
	if _, errs, _ := result(i.session("build", "acme", "--jobs", "6")); !strings.Contains(errs, "\nflags -k jobs 6\n") {
		i.t.Error(errs)
	}
	if _, errs, _ := result(i.session("build", "acme", "--", "sh", "-c", `echo "flags ${MAKEFLAGS-none}"`, "-j3")); !strings.Contains(errs, "\nflags -k\n") {
		i.t.Error(errs)
	}
}

func buildsAgain(i inside) {
	i.project = buildsOf("command = "+shell(`pwd >place; cat ~/.cache/x; echo same >same; echo y >~/.cache/x`), `artifacts = ["same"]`, `caches = ["~/.cache"]`)
	if out, errs, code := result(i.session("build", "acme", "--reproduce")); code != 0 ||
		!strings.Contains(out, "acme@1: byte-identical when built again, in "+i.path("project-again")+"\n") {
		i.t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	i.project = buildsOf("command = "+shell(`pwd >place; echo same >same; cat ~/.cache/x >cache 2>/dev/null; busybox date +%s >time; [ $PWD = ${PWD%again} ] || echo x >more.x; echo y >~/.cache/x;`),
		`artifacts = ["place", "same", "cache", "time", "*.x"]`, `caches = ["~/.cache"]`)
	i.write("project/first.x", "x")
	out, errs, code := result(i.session("build", "acme", "--reproduce", "--json"))
	var built []envs.Built
	if err := json.Unmarshal([]byte(out), &built); err != nil || code != 3 || len(built) != 1 || built[0].Reproduced == nil {
		i.t.Fatalf("exit code %d, %v\n%s%s", code, err, out, errs)
	}
	got := map[string]string{}
	for _, d := range built[0].Reproduced.Differences {
		got[d.Path] = d.Kind
	}
	want := map[string]string{"place": envs.DiffersInPath, "time": envs.DiffersInTime, "cache": envs.DiffersInContent, "more.x": envs.OnlySecond}
	for path, kind := range want {
		if got[path] != kind {
			i.t.Errorf("%s differs by %q, want %q", path, got[path], kind)
		}
	}
	if len(got) != len(want) || built[0].Reproduced.Same {
		i.t.Errorf("got %+v", built[0].Reproduced)
	}
}

// What a build leaves that is no artifact, where artifacts can't go, and a log without end.
func buildsOdd(i inside) {
	i.remove("project/dist")
	i.write("project/dist/acme/notes", "mine\n")
	i.project = buildsOf("command = "+shell(`mkdir -p zz; echo '#!/bin/sh' >zz/su; busybox chmod 4755 zz/su; busybox ln -sf /bin/sh zz/sh; busybox mkfifo zz/pipe
		busybox yes a line of the log | busybox head -c 60000000`), `artifacts = ["zz/**"]`)
	out, errs, code := result(i.session("build", "-q", "acme", "acme@1"))
	if code != 0 || strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "acme@1: 1 artifact, 10 B in ") {
		i.t.Fatalf("exit code %d, %s%s", code, out, errs)
	}
	for _, want := range []string{`acme@1: pattern "zz/**" leaves out zz/pipe, a named pipe, not a regular file; zz/sh, a link to /bin/sh, which leads out of the project`,
		": dist/acme/su has mode 0755, not 4755"} {
		if !strings.Contains(errs, want) {
			i.t.Errorf("%q isn't said in\n%s", want, errs)
		}
	}
	if got := i.read("project/dist/acme/notes"); got != "mine\n" {
		i.t.Errorf("the notes are %q", got)
	}
	_, log, _ := strings.Cut(errs, "log: ")
	log, _, _ = strings.Cut(log, "\n")
	if text, err := os.ReadFile(log); err != nil || len(text) > 50<<20 || !bytes.Contains(text, []byte(" bytes are left out here]\na line of the log\n")) {
		i.t.Errorf("the log has %d bytes, %v", len(text), err)
	}
	i.remove("project/dist")
	i.write("project/dist", "a file\n")
	i.project = buildsOf("command = "+shell("echo it ran"), `artifacts = ["zz/sh"]`)
	if _, errs, code := result(i.session("build", "acme")); code != 1 || !strings.Contains(errs, "/project/dist, which is no folder\nhint: ") || strings.Contains(errs, "it ran") {
		i.t.Errorf("exit code %d, %s", code, errs)
	}
	i.remove("project/dist")
	if _, errs, code := result(i.session("build", "acme")); code != 1 || !strings.Contains(errs, "is a link to /bin/sh, which leads out of the project\nhint: ") {
		i.t.Errorf("exit code %d, %s", code, errs)
	}
}
