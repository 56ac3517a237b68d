package envs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/envs/artifact"
)

// Grouping is the fewest builds that serve a number of targets.
type Grouping struct {
	// Exact says that no fewer builds would do; beyond 64 targets that isn't known.
	Exact   bool         `json:"exact"`
	Targets int          `json:"targets"`
	Builds  []GroupBuild `json:"builds"`
}

// GroupBuild is a build that is needed.
type GroupBuild struct {
	Target  string        `json:"target"` // in whose env
	Release int           `json:"release"`
	Serves  []GroupServed `json:"serves"` // its own target first
}

// The grounds on which a build serves another target.
const (
	ByProvides  = "provides"  // that has all that the build could have taken from its own
	ByArtifacts = "artifacts" // what was built starts there
)

// GroupServed is a target that a build serves.
type GroupServed struct {
	Target  string `json:"target"`
	Release int    `json:"release"`
	By      string `json:"by,omitempty"` // ByProvides or ByArtifacts; "" for the build's own
	// Else says for each other build why it doesn't serve this target.
	Else []GroupObstacle `json:"else,omitempty"`
}

// GroupObstacle is why a build doesn't serve a target.
type GroupObstacle struct {
	Build string `json:"build"`
	By    string `json:"by"`
	Text  string `json:"text"`
}

// Entries are those of a matrix that are built, each with the targets that it serves.
func (g *Grouping) Entries(all []MatrixEntry) []MatrixEntry {
	entries := []MatrixEntry{}
	for _, e := range all {
		i := slices.IndexFunc(g.Builds, func(b GroupBuild) bool { return b.Target == e.Target })
		if i < 0 {
			continue
		}
		for _, s := range g.Builds[i].Serves {
			e.Serves = append(e.Serves, s.Target)
		}
		entries = append(entries, e)
	}
	return entries
}

// relation says whether a build serves a target, on which ground, and why it doesn't.
type relation struct {
	by, obstacle string
}

// Group finds the fewest builds that serve all releases, of which no two are of one
// target. What was built for a release, as its folder in dist/ has it, is judged for the
// others; where nothing was built, what the releases provide is compared.
func (p *Project) Group(ctx context.Context, cfg Config, releases []Release, opts IndexOptions) (*Grouping, error) {
	relations, err := p.relations(ctx, cfg, releases, opts)
	if err != nil {
		return nil, err
	}
	serves := make([][]bool, len(releases))
	for i, row := range relations {
		serves[i] = make([]bool, len(releases))
		for j, r := range row {
			serves[i][j] = i == j || r.obstacle == ""
		}
	}
	chosen, exact := fewest(serves)
	g := &Grouping{Exact: exact, Targets: len(releases), Builds: []GroupBuild{}}
	for _, i := range chosen {
		g.Builds = append(g.Builds, GroupBuild{Target: releases[i].Target, Release: releases[i].Number})
	}
	for j, rel := range releases {
		b := slices.IndexFunc(chosen, func(i int) bool { return serves[i][j] })
		if own := slices.Index(chosen, j); own >= 0 {
			b = own
		}
		s := GroupServed{Target: rel.Target, Release: rel.Number, By: relations[chosen[b]][j].by}
		for _, i := range chosen {
			if r := relations[i][j]; i != j && r.obstacle != "" {
				s.Else = append(s.Else, GroupObstacle{Build: releases[i].Target, By: r.by, Text: r.obstacle})
			}
		}
		list := &g.Builds[b].Serves
		if chosen[b] == j {
			*list = slices.Insert(*list, 0, s)
		} else {
			*list = append(*list, s)
		}
	}
	return g, nil
}

// fewest chooses builds. Each serves its own target.
func fewest(serves [][]bool) (chosen []int, exact bool) {
	if len(serves) > maxExact {
		return greedy(serves), false
	}
	rows := make([]uint64, len(serves))
	for i, row := range serves {
		for j, yes := range row {
			if yes {
				rows[i] |= 1 << j
			}
		}
	}
	return cover(rows), true
}

// greedy takes the build that serves most of those who are left, again and again.
func greedy(serves [][]bool) (chosen []int) {
	open := make(map[int]bool, len(serves))
	for j := range serves {
		open[j] = true
	}
	for len(open) > 0 {
		best, most := 0, 0
		for i, row := range serves {
			n := 0
			for j := range open {
				if row[j] {
					n++
				}
			}
			if n > most {
				best, most = i, n
			}
		}
		chosen = append(chosen, best)
		for j, yes := range serves[best] {
			if yes {
				delete(open, j)
			}
		}
	}
	slices.Sort(chosen)
	return chosen
}

// relations say of each build what it is to each target.
func (p *Project) relations(ctx context.Context, cfg Config, releases []Release, opts IndexOptions) ([][]relation, error) {
	judged := make([]*Judged, len(releases))
	sets := make([][]*artifact.Set, len(releases))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(goruntime.GOMAXPROCS(0))
	for i, rel := range releases {
		g.Go(func() (err error) {
			if judged[i], err = JudgeRelease(gctx, cfg, rel, opts); err != nil {
				return err
			}
			if judged[i].unknown != nil {
				return fmt.Errorf("comparing %s: %w", rel, judged[i].unknown)
			}
			sets[i], err = p.builtFor(gctx, rel, judged[i].Lock)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := make([][]relation, len(releases))
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(goruntime.GOMAXPROCS(0))
	for i := range releases {
		all[i] = make([]relation, len(releases))
		for j := range releases {
			if i == j {
				continue
			}
			g.Go(func() (err error) {
				if len(sets[i]) > 0 {
					all[i][j].by = ByArtifacts
					dist := filepath.Join(p.Dir, "dist", releases[i].Target)
					all[i][j].obstacle, err = starting(gctx, judged[j], sets[i], dist)
					return err
				}
				all[i][j].by = ByProvides
				all[i][j].obstacle = lacking(judged[i].target, judged[j].target)
				return gctx.Err()
			})
		}
	}
	return all, g.Wait()
}

// starting judges what was built, and tells the first thing that is in the way.
func starting(ctx context.Context, on *Judged, sets []*artifact.Set, dist string) (obstacle string, err error) {
	for _, set := range sets {
		answers, err := on.judge(ctx, set)
		if err != nil {
			return "", err
		}
		for _, a := range answers {
			if a.Verdict == artifact.Starts {
				continue
			}
			file := strings.TrimPrefix(a.File, dist+"/")
			for _, r := range a.Reasons {
				if r.Verdict == a.Verdict {
					return fmt.Sprintf("%s: %s", file, r.Text), nil
				}
			}
			return fmt.Sprintf("%s: %s", file, a.Verdict), nil
		}
	}
	return "", nil
}

// builtFor reads what was built for a release, by the list that lies beside it; nothing
// where that isn't there, or was built for another lock. Its trial tells what programs
// loaded.
func (p *Project) builtFor(ctx context.Context, rel Release, identity digest.Digest) ([]*artifact.Set, error) {
	dir := filepath.Join(p.Dir, "dist", rel.Target)
	text, err := readBounded(filepath.Join(dir, artifactsFile), maxArtifacts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list Artifacts
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, artifactsFile), err)
	}
	if list.Lock != identity || len(list.Artifacts) == 0 {
		return nil, nil
	}
	sets, err := ReadArtifacts(ctx, []string{dir}, ArtifactOptions{})
	build, _, _ := p.Config.For(rel.Target)
	for _, s := range sets {
		s.Declared, s.Seen = build.Dlopen, list.Trial.seen()
	}
	return sets, err
}

// maxArtifacts bounds the list of artifacts, in bytes.
const maxArtifacts = 64 << 20
