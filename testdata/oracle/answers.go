package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sync/errgroup"
)

// questions changes whenever other questions are asked: older answers are then of no use.
const questions = "11"

// answer is what a target said of a file.
type answer struct {
	Path string
	Way  string // one of the ways below
	Into string `json:",omitempty"` // the program that it was preloaded into
	Now  bool   `json:",omitempty"` // which binds everything at once
	// Overlooked is the program that such a module is for, and that doesn't look for it
	// there, or isn't there itself.
	Overlooked string   `json:",omitempty"`
	Exec       string   `json:",omitempty"` // why the kernel refused it
	Load       []string `json:",omitempty"` // what the loader complains about at once
	Call       []string `json:",omitempty"` // what it finds out only when everything is bound
}

// The ways in which a target is asked.
const (
	started   = "started"   // by the kernel
	loaded    = "loaded"    // by its loader, alone
	preloaded = "preloaded" // into a program of the target
	noPlace   = "no place"  // not at all: the file can't lie at its path there
)

// complaint is a line of a loader, understood.
type complaint struct {
	kind   string // as loader.Kind; other, or harmless
	name   string // of the library, version or symbol
	by     string // the file that needs it
	wanted string // the version of a symbol
}

var forms = []struct {
	form *regexp.Regexp
	kind string
}{
	{regexp.MustCompile(`^(?P<name>.+) => not found$`), "missing-library"},
	{regexp.MustCompile("weak version `(?P<name>.*)' not found"), "harmless"},
	{regexp.MustCompile("version `(?P<name>.*)' not found \\(required by (?P<by>.*)\\)$"), "missing-version"},
	{regexp.MustCompile(`no version information available`), "harmless"},
	{regexp.MustCompile(`^undefined symbol: (?P<name>.+?)(, version (?P<wanted>\S*))?\s+\((?P<by>.*)\)$`), "missing-symbol"},
	{regexp.MustCompile("[Ss]ymbol `(?P<name>.*)' has different size"), "copy-size"},
}

func understand(line string) complaint {
	for _, f := range forms {
		m := f.form.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		get := func(group string) string {
			if i := f.form.SubexpIndex(group); i >= 0 {
				return m[i]
			}
			return ""
		}
		return complaint{f.kind, get("name"), get("by"), get("wanted")}
	}
	return complaint{kind: "other", name: line}
}

// worst are the complaints that count, of those at load and those at a call.
func (a answer) worst() (load, call []complaint) {
	pick := func(lines []string) (list []complaint) {
		for _, line := range lines {
			if c := understand(line); c.kind != "harmless" && c.kind != "copy-size" {
				list = append(list, c)
			}
		}
		return list
	}
	return pick(a.Load), pick(a.Call)
}

// askAll asks target for subjects of source, with some rooms at once.
func askAll(ctx context.Context, source, target host, list []subject) ([]answer, error) {
	answers := make([]answer, len(list))
	next := make(chan int)
	g, ctx := errgroup.WithContext(ctx)
	for range rooms {
		g.Go(func() error {
			return inRoom(target.Root, source.Root, func(r *room) error {
				for i := range next {
					var err error
					if answers[i], err = r.ask(ctx, list[i]); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	g.Go(func() error {
		defer close(next)
		for i := range list {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return answers, g.Wait()
}

// rooms is how many questions are asked at once.
const rooms = 4

// answersOf are the answers of target for all subjects of source, from the folder cache
// where they are; from none for "".
func answersOf(ctx context.Context, cache string, source, target host, list []subject) ([]answer, error) {
	sum := sha256.Sum256([]byte(questions + "\n" + source.ID + "\n" + target.ID))
	path := filepath.Join(cache, source.Name+"-on-"+target.Name+"-"+hex.EncodeToString(sum[:6]))
	if cache == "" {
		return askAll(ctx, source, target, list)
	}
	answers, err := readAnswers(path)
	if err == nil && len(answers) == len(list) {
		return answers, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	answers, err = askAll(ctx, source, target, list)
	if err != nil {
		return nil, err
	}
	return answers, writeAnswers(path, answers)
}

func readAnswers(path string) (answers []answer, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for in := json.NewDecoder(bufio.NewReader(f)); in.More(); {
		var a answer
		if err := in.Decode(&a); err != nil {
			return nil, err
		}
		answers = append(answers, a)
	}
	return answers, nil
}

func writeAnswers(path string, answers []answer) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	enc := json.NewEncoder(out)
	for _, a := range answers {
		err = errors.Join(err, enc.Encode(a))
	}
	if err = errors.Join(err, out.Flush(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
