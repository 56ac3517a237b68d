package envs

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/stead-env/stead/envs/lock"
)

// The files that tell of a build beside its artifacts.
const (
	statementFile = "provenance.intoto.json"    // an in-toto statement
	predicateFile = "provenance.predicate.json" // its predicate alone, which signing tools ask for
	contentsFile  = "env.cdx.json"              // what the env is made of, as CycloneDX has it
)

// The names that provenance has for what it is about.
const (
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://slsa.dev/provenance/v1"
	buildType     = "https://github.com/stead-env/stead#provenance-v1" // README.md says what is in it
	builderID     = "https://github.com/stead-env/stead/builder"
)

// Evidence is a file beside the artifacts that tells of their build.
type Evidence struct {
	Path   string `json:"path"`
	Type   string `json:"type"` // what kind of file it is, by the name of its format
	SHA256 string `json:"sha256"`

	data []byte
}

func newEvidence(name, kind string, v any) (Evidence, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return Evidence{}, fmt.Errorf("writing %s: %w", name, err)
	}
	sum := sha256.Sum256(b.Bytes())
	return Evidence{Path: name, Type: kind, SHA256: hex.EncodeToString(sum[:]), data: b.Bytes()}, nil
}

// Builder says who builds.
type Builder struct {
	ID         string // a URI
	Version    string // of this program
	Invocation string // what the build is called where it runs; "" for a new name
}

// ReadBuilder takes from the environment what a CI system says about itself; whoever
// signs a provenance names the builder in $STEAD_BUILDER_ID.
func ReadBuilder(version string) Builder {
	b := Builder{ID: cmp.Or(os.Getenv("STEAD_BUILDER_ID"), builderID), Version: version}
	if run := os.Getenv("GITHUB_RUN_ID"); run != "" {
		b.Invocation = fmt.Sprintf("%s/%s/actions/runs/%s/attempts/%s", os.Getenv("GITHUB_SERVER_URL"),
			os.Getenv("GITHUB_REPOSITORY"), run, cmp.Or(os.Getenv("GITHUB_RUN_ATTEMPT"), "1"))
	} else {
		b.Invocation = os.Getenv("CI_JOB_URL")
	}
	return b
}

// buildFacts are all that the evidence of one build is made from.
type buildFacts struct {
	Project  string // absolute
	Release  Release
	Identity digest.Digest
	Lock     *lock.Lock
	LockFile digest.Digest // of the lock's whole text
	Wishes   []string      // for tools, those that the release grants itself included
	Tools    *Tools        // nil where no package was added
	Licenses licenses
	Source   Source
	Build    Build
	Settings Settings // stead.toml's
	Engine   string
	Builder  Builder
	Started  time.Time
	Finished time.Time
}

// statement is an in-toto statement.
type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     provenance `json:"predicate"`
}

// resource is in-toto's ResourceDescriptor.
type resource struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest,omitempty"`
	MediaType   string            `json:"mediaType,omitempty"`
	Annotations map[string]any    `json:"annotations,omitempty"`
}

// provenance is the predicate that SLSA calls provenance, version 1.
type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string             `json:"buildType"`
	ExternalParameters   externalParameters `json:"externalParameters"`
	InternalParameters   internalParameters `json:"internalParameters"`
	ResolvedDependencies []resource         `json:"resolvedDependencies"`
}

// externalParameters are what the project and whoever built it chose.
type externalParameters struct {
	Project      string            `json:"project"`
	Target       string            `json:"target"`
	Command      []string          `json:"command"`
	Fetch        []string          `json:"fetch,omitempty"`
	Artifacts    []string          `json:"artifacts,omitempty"`
	Caches       []string          `json:"caches,omitempty"`
	Tools        []string          `json:"tools,omitempty"`
	Variables    map[string]string `json:"variables,omitempty"`
	Mounts       []string          `json:"mounts,omitempty"`
	Devices      []string          `json:"devices,omitempty"`
	Certificates string            `json:"certificates,omitempty"`
}

// internalParameters are what stead chose.
type internalParameters struct {
	Release      int    `json:"release"`
	Lock         string `json:"lock"` // identity
	Rootfs       string `json:"rootfs"`
	Tools        string `json:"tools,omitempty"`
	Directory    string `json:"directory"` // where the project stands, here and inside
	Engine       string `json:"engine"`
	Architecture string `json:"architecture,omitempty"`
}

type runDetails struct {
	Builder    slsaBuilder `json:"builder"`
	Metadata   runMetadata `json:"metadata"`
	Byproducts []resource  `json:"byproducts"`
}

type slsaBuilder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

type runMetadata struct {
	InvocationID string    `json:"invocationId"`
	StartedOn    time.Time `json:"startedOn"`
	FinishedOn   time.Time `json:"finishedOn"`
}

// tell returns what makes the files that tell of a build, once it is done, in a root and
// with the tools over it, where there are any.
func (f buildFacts) tell(root *Root, tools *Tools, over *ToolsLayer) func([]Artifact) ([]Evidence, error) {
	return func(artifacts []Artifact) ([]Evidence, error) {
		f.Finished = time.Now()
		if err := f.read(root, tools, over); err != nil {
			return nil, err
		}
		return f.evidence(artifacts)
	}
}

// read reads what an env is made of.
func (f *buildFacts) read(root *Root, tools *Tools, over *ToolsLayer) error {
	text, err := root.Release.Text()
	if err != nil {
		return err
	}
	l, err := lock.Read(text)
	if err != nil {
		return fmt.Errorf("%s: %w", root.Release.Path, err)
	}
	f.Release, f.Identity, f.Lock, f.LockFile, f.Licenses = root.Release, root.Identity, l, digest.FromBytes(text), licenses{}
	f.Licenses.read(layerBase, root.Path, l.Packages)
	if tools != nil {
		f.Wishes = tools.Wishes
	}
	if tools != nil && over != nil {
		f.Tools = tools
		f.Licenses.read(layerTools, over.Path, tools.Packages)
	}
	return nil
}

// evidence makes the files that tell of a build. The list of the env is the same for
// each build in it; of the others only times and the name of the build differ. Where
// there are no artifacts nothing can be said of them.
func (f *buildFacts) evidence(artifacts []Artifact) ([]Evidence, error) {
	contents, err := newEvidence(contentsFile, "application/vnd.cyclonedx+json; version=1.6", f.contents())
	if err != nil || len(artifacts) == 0 {
		return []Evidence{contents}, err
	}
	s := statement{Type: statementType, PredicateType: predicateType, Predicate: f.provenance(contents)}
	for _, a := range artifacts {
		s.Subject = append(s.Subject, resource{Name: a.Path, Digest: map[string]string{"sha256": a.SHA256}})
	}
	whole, err := newEvidence(statementFile, "application/vnd.in-toto+json", s)
	if err != nil {
		return nil, err
	}
	predicate, err := newEvidence(predicateFile, predicateType, s.Predicate)
	return []Evidence{contents, whole, predicate}, err
}

func (f *buildFacts) provenance(contents Evidence) provenance {
	p := provenance{
		BuildDefinition: buildDefinition{BuildType: buildType, ExternalParameters: f.external(),
			InternalParameters: internalParameters{Release: f.Release.Number, Lock: f.Identity.String(), Rootfs: f.Lock.Rootfs.Digest,
				Directory: f.Project, Engine: f.Engine, Architecture: f.Lock.Host.Architecture},
			ResolvedDependencies: f.dependencies()},
		RunDetails: runDetails{
			Builder: slsaBuilder{ID: f.Builder.ID, Version: map[string]string{"stead": f.Builder.Version}},
			Metadata: runMetadata{InvocationID: f.invocation(), StartedOn: f.Started.UTC().Truncate(time.Second),
				FinishedOn: f.Finished.UTC().Truncate(time.Second)},
			Byproducts: []resource{{Name: contents.Path, MediaType: contents.Type, Digest: map[string]string{"sha256": contents.SHA256}}},
		},
	}
	if f.Tools != nil {
		p.BuildDefinition.InternalParameters.Tools = f.Tools.Digest
	}
	return p
}

func (f *buildFacts) external() externalParameters {
	e := externalParameters{Project: filepath.Base(f.Project), Target: f.Release.Target, Command: f.Build.Command, Fetch: f.Build.Fetch,
		Artifacts: f.Build.Artifacts, Caches: f.Build.Caches, Variables: maps.Clone(f.Settings.Variables),
		Tools: f.Wishes, Devices: f.Settings.Devices, Certificates: f.Settings.Certificates}
	for _, m := range f.Settings.Mounts {
		e.Mounts = append(e.Mounts, m.text)
	}
	return e
}

// invocation names the build: what a CI system calls it, or a new name.
func (f *buildFacts) invocation() string {
	if f.Builder.Invocation != "" {
		return f.Builder.Invocation + "#" + f.Release.Target
	}
	var random [16]byte
	rand.Read(random[:]) //nolint:errcheck // crypto/rand doesn't fail
	return uuid(random, 4)
}

// uuid spells 16 bytes as a URN: RFC 9562.
func uuid(b [16]byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// dependencies are all that went into a build. Digests that are no plain one of a
// file have names of stead's own: an identity is that of a lock without [release], a
// tree that of a manifest.
func (f *buildFacts) dependencies() []resource {
	kind := func(of, layer string) map[string]any { return map[string]any{"kind": of, "layer": layer} }
	list := []resource{
		{Name: f.Release.String(), Annotations: map[string]any{"kind": "lock"},
			Digest: map[string]string{"sha256": f.LockFile.Encoded(), "steadIdentity": f.Identity.Encoded()}},
		{Name: "rootfs", Digest: treeDigest(f.Lock.Rootfs.Digest), Annotations: kind("rootfs", layerBase)},
	}
	list = append(list, f.Source.dependencies()...)
	if f.Tools != nil {
		list = append(list, resource{Name: "tools", Digest: treeDigest(f.Tools.Digest), Annotations: kind("tools", layerTools)})
	}
	for _, l := range f.layers() {
		if l.delta.SHA256 != "" {
			list = append(list, resource{Name: "delta", Digest: map[string]string{"sha256": l.delta.SHA256}, Annotations: kind("delta", l.name)})
		}
		for _, a := range l.archives {
			note := kind("archive", l.name)
			note["suite"], note["signedBy"], note["dated"] = a.Suite, a.SignedBy, a.Dated
			list = append(list, resource{Name: a.Name, URI: a.URI, Digest: map[string]string{"sha256": a.InRelease.Encoded()}, Annotations: note})
		}
		for _, p := range l.packages {
			d := resource{Name: p.Name, URI: f.purl(p), Annotations: kind("package", l.name)}
			if p.HasFile() {
				d.Digest = map[string]string{"sha256": p.SHA256}
			}
			list = append(list, d)
		}
	}
	return list
}

// treeDigest is the digest of a manifest, "tree1:sha256:…", as a set of digests.
func treeDigest(s string) map[string]string {
	sum, ok := strings.CutPrefix(s, "tree1:sha256:")
	if !ok {
		return nil
	}
	return map[string]string{"steadTree1": sum}
}

// The layers of an env.
const (
	layerBase  = "base"
	layerTools = "tools"
)

// envLayer is one of the two that an env is made of.
type envLayer struct {
	name     string
	delta    lock.Delta
	archives []lock.Archive
	packages []lock.Package // those that are there
}

func (f *buildFacts) layers() []envLayer {
	list := []envLayer{{layerBase, f.Lock.Delta, f.Lock.Archives, there(f.Lock.Packages)}}
	if f.Tools != nil {
		list = append(list, envLayer{layerTools, f.Tools.Delta, f.Tools.Archives, there(f.Tools.Packages)})
	}
	return list
}

// there are the packages that an env has: not those whose files a lock keeps out of
// it, and not those of which a host has the configuration alone.
func there(packages []lock.Package) []lock.Package {
	return slices.DeleteFunc(slices.Clone(packages), func(p lock.Package) bool {
		return p.Rootfs == "out" || p.State == "config-files"
	})
}
