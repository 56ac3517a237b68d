// Command oracle compares stead's verdicts with those of real dynamic loaders: each program
// and library of three made hosts is judged for all three, by the target's own loader in
// its root and by stead from the target's index. Run as root, by `make oracle`.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// host is a root whose files are judged, and that they are judged for.
type host struct {
	Name string
	ID   string // changes when the root does
	Root string
}

// releases are the folders of the made hosts.
var releases = []string{"bullseye", "bookworm", "trixie"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	from := flag.String("from", "", "judge the files of this host alone")
	to := flag.String("to", "", "judge for this host alone")
	made := flag.String("hosts", "", "a folder with the hosts; made, or taken from the test cache, by default")
	list := flag.Bool("list", false, "list each file that is not agreed on")
	problems := flag.Bool("problems", false, "compare what loaders lack, too: each library, version and symbol")
	packages := flag.Int("packages", 0, "install so many packages of each host on each other, and compare what is said of them, too")
	flag.Parse()
	o := &oracle{problems: *problems, packages: *packages}
	fine, err := run(ctx, o, *made, *from, *to, *list)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	if err != nil || !fine {
		os.Exit(1)
	}
}

func run(ctx context.Context, o *oracle, made, from, to string, list bool) (fine bool, err error) {
	if os.Getuid() != 0 {
		return false, fmt.Errorf("asking loaders in other roots: that needs root")
	}
	if made == "" {
		if made, err = madeHosts(ctx, "oracle-hosts"); err != nil {
			return false, err
		}
	}
	o.cache = filepath.Join(filepath.Dir(made), "oracle-answers")
	for _, name := range releases {
		h := host{name, filepath.Base(made) + "/" + name, filepath.Join(made, name)}
		if from == "" || from == name {
			o.sources = append(o.sources, h)
		}
		if to == "" || to == name {
			o.targets = append(o.targets, h)
		}
	}
	r, err := o.ask(ctx)
	if err != nil {
		return false, err
	}
	fine = report(os.Stdout, r.all, list)
	if r.problems != nil {
		fmt.Println("\nProblems of loaders:")
		fine = report(os.Stdout, r.problems, list) && fine
	}
	if r.packages != nil {
		fmt.Println("\nPackages that are installed:")
		fine = report(os.Stdout, r.packages, list) && fine
	}
	return fine, nil
}

// report prints what comparing came to, and says whether it is as it has to be.
func report(w io.Writer, all []*tally, list bool) bool {
	sum := newTally("all", "")
	heading(w)
	for _, t := range all {
		t.print(w)
		sum.add(t)
	}
	sum.print(w)
	fmt.Fprintln(w)
	sum.reasons(w)
	for _, t := range all {
		lines := t.disagreements
		if list {
			lines = t.lines
		}
		for _, line := range lines {
			fmt.Fprintf(w, "%s on %s: %s\n", t.source, t.target, line)
		}
	}
	return sum.outcomes[disagreed] == 0 && sum.unproven() <= most
}

// most is how much may be unproven.
const most = 0.07

// madeHosts is the folder with hosts that a script of testdata/hosts makes.
func madeHosts(ctx context.Context, name string) (string, error) {
	script := exec.CommandContext(ctx, "testdata/hosts/cached", name)
	script.Stderr = os.Stderr
	out, err := script.Output()
	if err != nil {
		return "", fmt.Errorf("making %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
