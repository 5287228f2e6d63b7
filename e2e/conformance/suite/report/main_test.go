package main

import (
	"os"
	"path/filepath"
	"testing"

	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

const suiteLog = `=== RUN   TestConformance
    conformance.go:61: Skipping GatewayWithAttachedRoutes: suite does not support HTTPRoute
--- FAIL: TestConformance (1.00s)
    --- SKIP: TestConformance/GatewayWithAttachedRoutes (0.00s)
    --- PASS: TestConformance/TCPRouteReferenceGrant (1.00s)
        --- PASS: TestConformance/TCPRouteReferenceGrant/one_of_its_parts (0.50s)
    --- FAIL: TestConformance/GatewayInvalidTLSConfiguration (1.00s)
    --- PASS: TestConformance/GatewayStaticAddresses (1.00s)
`

func readLog(t *testing.T) results {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(suiteLog), 0o600); err != nil {
		t.Fatal(err)
	}
	return read(path)
}

func TestReadsTopLevelOutcomes(t *testing.T) {
	found := readLog(t)
	if len(found.outcomes) != 4 || found.outcomes["GatewayInvalidTLSConfiguration"] != "FAIL" {
		t.Errorf("outcomes %v", found.outcomes)
	}
	if found.lacking["GatewayWithAttachedRoutes"] != "HTTPRoute" {
		t.Errorf("lacking %v", found.lacking)
	}
}

func TestLaterFailureIsNotReportedAsSuccess(t *testing.T) {
	reported := confv1.ProfileReport{
		Name:     string(suite.GatewayTCPConformanceProfileName),
		Core:     confv1.Status{Result: confv1.Success, Statistics: confv1.Statistics{Passed: 19}},
		Extended: &confv1.ExtendedStatus{},
		Summary:  "Core tests succeeded. Extended tests succeeded.",
	}
	corrected := readLog(t).correct(reported)
	if corrected.Core.Result != confv1.Failure || corrected.Core.Passed != 1 {
		t.Errorf("core %+v", corrected.Core)
	}
	if corrected.Core.Failed != 18 { // one of them failed, the others didn't run
		t.Errorf("failed %d", corrected.Core.Failed)
	}
	if corrected.Extended.Passed != 1 {
		t.Errorf("extended %+v", corrected.Extended)
	}
}

func TestSkipsHaveToBeExpected(t *testing.T) {
	found := readLog(t)
	if problems := found.unexpectedSkips([]string{"HTTPRoute"}); len(problems) != 0 {
		t.Error(problems)
	}
	if problems := found.unexpectedSkips([]string{"TLSRoute"}); len(problems) != 1 {
		t.Error(problems)
	}
}
