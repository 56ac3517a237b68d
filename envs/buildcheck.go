package envs

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stead-env/stead/envs/artifact"
	"github.com/stead-env/stead/envs/artifact/content"
	"github.com/stead-env/stead/envs/artifact/loader"
)

// DisagreementError says that a trial and a verdict can't both be right, which is a mistake
// of this program.
type DisagreementError struct {
	Release  Release
	Artifact string // dist/acme/app
	Started  bool   // that it did
	Verdict  artifact.Answer
	Evidence string // the file with all that is known

	path string // below dist/TARGET
}

func (e *DisagreementError) Error() string {
	judged, did := "fails", "started"
	if !e.Started {
		judged, did = "starts", "didn't start"
	}
	return fmt.Sprintf("checking what was built for %s: the verdict on %s is that it %s, and in its trial it %s: one of them is wrong, and that is stead's mistake",
		e.Release, e.Artifact, judged, did)
}

// Hint says what to do with it.
func (e *DisagreementError) Hint() string { return "please report it with " + e.Evidence }

// judge judges the artifacts that lie in dir, which is going to be dist/TARGET, tries them,
// and writes down what came of it.
func (r *builder) judge(ctx context.Context, dir string, list *Artifacts, found map[string]string) error {
	if r.opts.Unchecked || len(list.Artifacts) == 0 {
		return nil
	}
	r.phase(PhaseChecking, "")
	judged, err := JudgeRelease(ctx, r.cfg, r.release, r.opts.Index)
	if err != nil {
		return err
	}
	if judged.target != nil {
		judged.target.Env = "" // they were built in it
	}
	sets, err := ReadArtifacts(ctx, []string{dir}, ArtifactOptions{})
	if err != nil {
		return err
	}
	for _, s := range sets {
		s.Declared = r.build.Dlopen
	}
	if len(r.build.Trial) > 0 {
		if list.Trial, err = r.try(ctx, found); err != nil {
			return err
		}
		seen := list.Trial.seen()
		for _, s := range sets {
			s.Seen = seen
		}
	}
	checked, err := judgeAll(ctx, []*Judged{judged}, func(*Judged) []*artifact.Set { return sets })
	if err != nil {
		return err
	}
	if err := checked.findWays(ctx, r.cfg, []*Judged{judged}, sets, nil); err != nil {
		return err
	}
	list.Answers = checked.Answers
	r.tellOfTools(list.Answers)
	list.placed(dir)
	if list.Trial != nil && !list.Trial.OK() {
		list.Verdict = artifact.Fails
	}
	d := list.disagreement(r.release)
	if d != nil && d.Started {
		if there, err := r.startsInView(ctx, judged, found[d.path]); err != nil || there {
			return err
		}
	}
	if d != nil {
		d.Evidence, err = r.keepEvidence(*list, *d)
		r.disagreement = d
	}
	return err
}

// tellOfTools says of libraries that are missing on the target where they came from: a
// linker took them out of the tools.
func (r *builder) tellOfTools(answers []artifact.Answer) {
	if r.tools.Layer == nil {
		return
	}
	for _, a := range answers {
		for i := range a.Reasons {
			reason := &a.Reasons[i]
			name := path.Base(reason.Library)
			if reason.Kind != string(loader.MissingLibrary) || strings.ContainsAny(name, "*?[\\") {
				continue
			}
			for _, dir := range []string{"usr/lib", "usr/lib/*", "lib", "lib/*"} {
				if found, err := filepath.Glob(filepath.Join(r.tools.Layer.Path, dir, name)); err == nil && len(found) > 0 {
					reason.Ways = append([]string{fmt.Sprintf("the tools brought %s, which production lacks: link it statically, or install it on %s and take a snapshot again",
						name, r.release.Target)}, reason.Ways...)
					break
				}
			}
		}
	}
}

// startsInView judges an artifact where it was built, and tried: what it lacks in
// dist/TARGET may lie there, and be no artifact.
func (r *builder) startsInView(ctx context.Context, judged *Judged, source string) (bool, error) {
	sets, err := ReadArtifacts(ctx, []string{r.view.Dir}, ArtifactOptions{At: r.project.Dir})
	if err != nil {
		return false, err
	}
	checked, err := judgeAll(ctx, []*Judged{judged}, func(*Judged) []*artifact.Set { return sets })
	if err != nil {
		return false, err
	}
	name := filepath.Join(r.view.Dir, source)
	return slices.ContainsFunc(checked.Answers, func(a artifact.Answer) bool { return a.File == name && !failsAtLoad(a) }), nil
}

// placed gives answers the names that artifacts have below dist/TARGET, and artifacts their
// verdicts.
func (list *Artifacts) placed(dir string) {
	byPath := map[string]*Artifact{}
	for i := range list.Artifacts {
		byPath[list.Artifacts[i].Path] = &list.Artifacts[i]
	}
	for i := range list.Answers {
		a := &list.Answers[i]
		a.File = strings.TrimPrefix(a.File, dir+"/")
		for k, t := range a.Travels {
			a.Travels[k] = strings.TrimPrefix(t, dir+"/")
		}
		for k := range a.Reasons {
			r := &a.Reasons[k]
			r.By, r.Text = strings.TrimPrefix(r.By, dir+"/"), strings.ReplaceAll(r.Text, dir+"/", "")
		}
		name, _, _ := strings.Cut(a.File, ": ") // of an archive, what it holds
		if it := byPath[a.File]; it != nil {
			name = a.File
		}
		if it := byPath[name]; it != nil {
			it.Verdict = worst([]artifact.Answer{{Verdict: cmpVerdict(it.Verdict)}, *a})
		}
	}
	if len(list.Answers) > 0 {
		list.Verdict = worst(list.Answers)
	}
}

// cmpVerdict is a verdict, starts where there was none.
func cmpVerdict(v artifact.Verdict) artifact.Verdict {
	if v == "" {
		return artifact.Starts
	}
	return v
}

// seen is what a trial saw being loaded, by where programs lie when they are judged.
func (t *Trial) seen() map[string][]string {
	seen := map[string][]string{}
	if t == nil {
		return seen
	}
	for _, p := range t.Programs {
		if p.Started && p.Loaded != nil {
			seen[path.Join(content.DefaultAt, p.Path)] = p.Loaded
		}
	}
	return seen
}

// disagreement finds an artifact that started where it can't, or didn't where it can.
func (list *Artifacts) disagreement(rel Release) *DisagreementError {
	if list.Trial == nil {
		return nil
	}
	for _, p := range list.Trial.Programs {
		i := slices.IndexFunc(list.Answers, func(a artifact.Answer) bool { return a.File == p.Path })
		if i < 0 {
			continue
		}
		a := list.Answers[i]
		if p.Started && failsAtLoad(a) || !p.Started && a.Verdict == artifact.Starts {
			return &DisagreementError{Release: rel, Artifact: path.Join("dist", list.Target, p.Path), Started: p.Started, Verdict: a, path: p.Path}
		}
	}
	return nil
}

// failsAtLoad reports whether a trial on this machine must have failed, too: its processor
// is another one, and its kernel only seems to be the target's.
func failsAtLoad(a artifact.Answer) bool {
	return a.Verdict == artifact.Fails && slices.ContainsFunc(a.Reasons, func(r artifact.Reason) bool {
		return r.Verdict == artifact.Fails && r.When != "call" && r.Kind != "cpu" && r.Kind != "kernel"
	})
}

// keepEvidence writes down all that is known of a disagreement beside the build's log.
func (r *builder) keepEvidence(list Artifacts, d DisagreementError) (string, error) {
	name := filepath.Join(filepath.Dir(r.view.Dir), "disagreement.json")
	text, err := json.MarshalIndent(struct {
		Release   string
		Lock      string
		Artifact  string
		Answer    artifact.Answer
		Trial     *Trial
		Artifacts []Artifact
	}{r.release.String(), list.Lock.String(), d.Artifact, d.Verdict, list.Trial, list.Artifacts}, "", "  ")
	if err == nil {
		err = writeFile(name, append(text, '\n'), 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("keeping the evidence: %w", err)
	}
	return name, nil
}
