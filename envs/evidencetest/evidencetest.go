// Package evidencetest reads what a build tells of itself as others would: with in-toto's
// and CycloneDX's own libraries and schemas. It knows nothing of how that is written.
package evidencetest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/package-url/packageurl-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/protobuf/encoding/protojson"
)

// Dist checks the evidence in a folder of artifacts.
func Dist(t *testing.T, dir string) (*intoto.Statement, *slsa.Provenance, *cyclonedx.BOM) {
	t.Helper()
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	s, p := Statement(t, read("provenance.intoto.json"), read("provenance.predicate.json"))
	return s, p, Contents(t, read("env.cdx.json"))
}

// Statement checks a statement, and its predicate alone. The library takes no field that
// it doesn't know.
func Statement(t *testing.T, whole, alone []byte) (*intoto.Statement, *slsa.Provenance) {
	t.Helper()
	var s intoto.Statement
	if err := protojson.Unmarshal(whole, &s); err != nil {
		t.Fatalf("%v\n%s", err, whole)
	}
	if err := s.Validate(); err != nil || s.Type != intoto.StatementTypeUri || s.PredicateType != "https://slsa.dev/provenance/v1" {
		t.Errorf("the statement, of type %s with a %s: %v", s.Type, s.PredicateType, err)
	}
	var p slsa.Provenance
	if err := protojson.Unmarshal(alone, &p); err != nil {
		t.Fatalf("%v\n%s", err, alone)
	}
	if err := p.Validate(); err != nil {
		t.Errorf("the predicate: %v", err)
	}
	var inside struct{ Predicate any }
	var outside any
	if err := json.Unmarshal(whole, &inside); err != nil {
		t.Error(err)
	}
	if err := json.Unmarshal(alone, &outside); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(inside.Predicate, outside) {
		t.Errorf("the predicate alone isn't the statement's:\n%s\n%s", alone, whole)
	}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		if _, err := packageurl.FromString(d.Uri); strings.HasPrefix(d.Uri, "pkg:") && err != nil {
			t.Errorf("%s: %v", d.Uri, err)
		}
	}
	return &s, &p
}

// Contents checks the list of an env.
func Contents(t *testing.T, text []byte) *cyclonedx.BOM {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = schema(t).Validate(doc)
	}
	if err != nil {
		t.Errorf("the list of the env: %v", err)
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(text), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{bom.Metadata.Component.BOMRef: true}
	for _, c := range *bom.Components {
		if known[c.BOMRef] {
			t.Errorf("two components have the name %s", c.BOMRef)
		}
		known[c.BOMRef] = true
		if _, err := packageurl.FromString(c.PackageURL); c.PackageURL != "" && err != nil {
			t.Errorf("%s: %v", c.PackageURL, err)
		}
	}
	for _, d := range *bom.Dependencies {
		for _, ref := range append([]string{d.Ref}, *d.Dependencies...) {
			if !known[ref] {
				t.Errorf("the list has no component %s", ref)
			}
		}
	}
	return &bom
}

// schema is that of CycloneDX 1.6, which comes with its library.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	const at = "http://cyclonedx.org/schema/"
	for url, name := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), "schema", name))
		var doc any
		if err == nil {
			doc, err = jsonschema.UnmarshalJSON(bytes.NewReader(text))
		}
		if err == nil {
			err = c.AddResource(at+url, doc)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	compiled, err := c.Compile(at + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}
