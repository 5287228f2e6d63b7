// Judges a run of the conformance suite by its log: prints a table, and corrects the report.
//
// The suite writes its report before the tests marked Parallel have run, and counts them as passed. The
// log has the last word on each.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/yaml"
)

var (
	outcomeLine = regexp.MustCompile(`^ {4}--- (PASS|FAIL|SKIP): TestConformance/(\S+) \(`)
	reasonLine  = regexp.MustCompile(`Skipping (\S+): suite does not support (\S+)`)
)

var profiles = []suite.ConformanceProfile{
	suite.GatewayTCPConformanceProfile,
	suite.GatewayUDPConformanceProfile,
	suite.GatewayTLSConformanceProfile,
	suite.GatewayHTTPConformanceProfile,
}

// What the log says of each test.
type results struct {
	outcomes map[string]string // PASS, FAIL or SKIP
	lacking  map[string]string // for a skipped test, the feature that it wants
}

func main() {
	log.SetFlags(0)
	logPath := flag.String("log", "", "log of the suite, run with -test.v")
	reportPath := flag.String("report", "", "report of the suite, corrected in place")
	skipsPath := flag.String("expected-skips", "", "file that names features and tests, one a line")
	flag.Parse()

	results := read(*logPath)
	report := readReport(*reportPath)
	problems := append(results.unexpectedSkips(readNames(*skipsPath)), results.failures()...)
	corrected := *report
	corrected.ProfileReports = nil
	for _, profile := range report.ProfileReports {
		problems = append(problems, results.missing(find(profile.Name))...)
		corrected.ProfileReports = append(corrected.ProfileReports, results.correct(profile))
	}
	corrected.SucceededProvisionalTests = slices.DeleteFunc(
		slices.Clone(report.SucceededProvisionalTests),
		func(name string) bool { return results.outcomes[name] != "PASS" },
	)
	if !reflect.DeepEqual(*report, corrected) {
		fmt.Println("The report is corrected: tests that ran after it was written have other results.")
		write(*reportPath, corrected)
	}
	printTable(results, corrected.ProfileReports)
	if len(problems) > 0 {
		log.Fatalln(strings.Join(problems, "\n"))
	}
}

func read(path string) results {
	content, err := os.ReadFile(path)
	if err != nil {
		log.Fatalln(err)
	}
	found := results{outcomes: map[string]string{}, lacking: map[string]string{}}
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, len(content)+1)
	for lines.Scan() {
		if match := outcomeLine.FindStringSubmatch(lines.Text()); match != nil {
			found.outcomes[match[2]] = match[1]
		} else if match := reasonLine.FindStringSubmatch(lines.Text()); match != nil {
			found.lacking[match[1]] = match[2]
		}
	}
	return found
}

func readReport(path string) *confv1.ConformanceReport {
	report := &confv1.ConformanceReport{}
	content, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(content, report)
	}
	if err != nil {
		log.Fatalln("there is no report:", err)
	}
	return report
}

func write(path string, report confv1.ConformanceReport) {
	content, err := yaml.Marshal(report)
	if err == nil {
		err = os.WriteFile(path, content, 0o644)
	}
	if err != nil {
		log.Fatalln(err)
	}
}

// The first word of each line, without comments.
func readNames(path string) []string {
	content, err := os.ReadFile(path)
	if err != nil {
		log.Fatalln(err)
	}
	var names []string
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		names = append(names, strings.Fields(line)...)
	}
	return names
}

func (r results) unexpectedSkips(expected []string) (problems []string) {
	used := map[string]bool{}
	for _, test := range tests.ConformanceTests {
		name := test.ShortName
		feature := r.lacking[name]
		if r.outcomes[name] != "SKIP" {
			continue
		}
		used[name], used[feature] = true, true
		if !slices.Contains(expected, name) && !slices.Contains(expected, feature) {
			problems = append(problems, fmt.Sprintf("unexpected skip: %s, which wants %q", name, feature))
		}
	}
	for _, name := range expected {
		if !used[name] {
			fmt.Printf("Nothing was skipped for %s: expected-skips.txt needn't name it.\n", name)
		}
	}
	return problems
}

func (r results) failures() (problems []string) {
	for _, test := range tests.ConformanceTests {
		if r.outcomes[test.ShortName] == "FAIL" {
			problems = append(problems, "failed: "+test.ShortName)
		}
	}
	return problems
}

// Tests of the profile without an outcome: the run broke off.
func (r results) missing(profile suite.ConformanceProfile) (problems []string) {
	for _, test := range testsOf(profile) {
		if r.outcomes[test.ShortName] == "" {
			problems = append(problems, fmt.Sprintf("did not run: %s of %s", test.ShortName, profile.Name))
		}
	}
	return problems
}

func find(name string) suite.ConformanceProfile {
	for _, profile := range profiles {
		if string(profile.Name) == name {
			return profile
		}
	}
	log.Fatalln("no profile", name)
	return suite.ConformanceProfile{}
}

// As the suite sorts tests into profiles: those all of whose features the profile has.
func testsOf(profile suite.ConformanceProfile) (found []suite.ConformanceTest) {
	for _, test := range tests.ConformanceTests {
		if profile.CoreFeatures.Union(profile.ExtendedFeatures).HasAll(test.Features...) {
			found = append(found, test)
		}
	}
	return found
}

// The suite's report of a profile with the outcomes that the log has.
func (r results) correct(reported confv1.ProfileReport) confv1.ProfileReport {
	profile := find(reported.Name)
	var core, extended confv1.Status
	for _, test := range testsOf(profile) {
		status := &extended
		if profile.CoreFeatures.HasAll(test.Features...) {
			status = &core
		}
		r.count(status, test.ShortName)
	}
	reported.Core = conclude(core)
	reported.Summary = "Core tests " + summary(reported.Core)
	if reported.Extended != nil {
		with := *reported.Extended
		with.Status = conclude(extended)
		reported.Extended = &with
		reported.Summary += ". Extended tests " + summary(with.Status)
	}
	reported.Summary += "."
	return reported
}

func (r results) count(status *confv1.Status, name string) {
	switch {
	case r.outcomes[name] == "PASS":
		status.Passed++
	case r.lacking[name] != "": // not supported, and so not counted
	case r.outcomes[name] == "SKIP":
		status.Skipped++
		status.SkippedTests = append(status.SkippedTests, name)
	default:
		status.Failed++
		status.FailedTests = append(status.FailedTests, name)
	}
}

func conclude(status confv1.Status) confv1.Status {
	slices.Sort(status.FailedTests)
	slices.Sort(status.SkippedTests)
	switch {
	case status.Failed > 0:
		status.Result = confv1.Failure
	case status.Skipped > 0:
		status.Result = confv1.Partial
	default:
		status.Result = confv1.Success
	}
	return status
}

// In the suite's words.
func summary(status confv1.Status) string {
	switch status.Result {
	case confv1.Failure:
		return fmt.Sprintf("failed with %d test failures", status.Failed)
	case confv1.Partial:
		return fmt.Sprintf("partially succeeded with %d test skips", status.Skipped)
	default:
		return "succeeded"
	}
}

func printTable(results results, reports []confv1.ProfileReport) {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(table, "\nPROFILE\tCORE\tEXTENDED\tSKIPPED")
	for _, report := range reports {
		extended := "-"
		if report.Extended != nil {
			extended = ratio(report.Extended.Status)
		}
		skipped := 0
		for _, test := range testsOf(find(report.Name)) {
			if results.outcomes[test.ShortName] == "SKIP" {
				skipped++
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\n", report.Name, ratio(report.Core), extended, skipped)
	}
	table.Flush()
}

func ratio(status confv1.Status) string {
	return fmt.Sprintf("%d/%d", status.Passed, status.Passed+status.Failed+status.Skipped)
}
