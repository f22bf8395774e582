# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""The directives of a unit, by their treatment in a template unit of instances.

A directive that is in no table is unknown: whether two instances may have it was not examined.
"""

from __future__ import annotations

#: Have the same meaning in each of two instances: systemd.unit(5).
_UNIT = """
After Before Conflicts Wants Requires Requisite BindsTo PartOf Upholds OnFailure OnSuccess
OnFailureJobMode OnSuccessJobMode PropagatesReloadTo ReloadPropagatedFrom PropagatesStopTo
StopPropagatedFrom JoinsNamespaceOf RequiresMountsFor WantsMountsFor Documentation
DefaultDependencies CollectMode FailureAction SuccessAction FailureActionExitStatus
SuccessActionExitStatus JobTimeoutSec JobRunningTimeoutSec JobTimeoutAction
JobTimeoutRebootArgument StartLimitIntervalSec StartLimitInterval StartLimitBurst
StartLimitAction RebootArgument AllowIsolate IgnoreOnIsolate SurviveFinalKillSignal
RefuseManualStop
"""
_CONDITIONS = """
Architecture Virtualization Host KernelCommandLine KernelVersion Credential Environment Security
Capability ACPower NeedsUpdate FirstBoot PathExists PathExistsGlob PathIsDirectory
PathIsSymbolicLink PathIsMountPoint PathIsReadWrite PathIsEncrypted DirectoryNotEmpty FileNotEmpty
FileIsExecutable User Group ControlGroupController Memory CPUs CPUFeature OSRelease MemoryPressure
CPUPressure IOPressure Firmware
"""
#: systemd.service(5) and systemd.kill(5).
_SERVICE = """
ExecStart ExecStartPre ExecStartPost ExecCondition ExecReload ExecStop ExecStopPost RestartSec
RestartSteps RestartMaxDelaySec RestartMode TimeoutStartSec TimeoutStopSec TimeoutAbortSec
TimeoutSec TimeoutStartFailureMode TimeoutStopFailureMode RuntimeMaxSec RuntimeRandomizedExtraSec
WatchdogSec WatchdogSignal Restart SuccessExitStatus RestartPreventExitStatus
RestartForceExitStatus RootDirectoryStartOnly NonBlocking NotifyAccess ExitType GuessMainPID
FileDescriptorStoreMax OOMPolicy OpenFile ReloadSignal StartLimitIntervalSec StartLimitInterval
StartLimitBurst StartLimitAction FailureAction PermissionsStartOnly KillMode KillSignal
RestartKillSignal SendSIGHUP SendSIGKILL FinalKillSignal
"""
#: systemd.exec(5).
_EXEC = """
WorkingDirectory BindPaths BindReadOnlyPaths TemporaryFileSystem ExecSearchPath User Group
SupplementaryGroups PAMName CapabilityBoundingSet AmbientCapabilities NoNewPrivileges SecureBits
SELinuxContext AppArmorProfile SmackProcessLabel LimitCPU LimitFSIZE LimitDATA LimitSTACK LimitCORE
LimitRSS LimitNOFILE LimitAS LimitNPROC LimitMEMLOCK LimitLOCKS LimitSIGPENDING LimitMSGQUEUE
LimitNICE LimitRTPRIO LimitRTTIME UMask CoredumpFilter KeyringMode OOMScoreAdjust TimerSlackNSec
Personality IgnoreSIGPIPE Nice CPUSchedulingPolicy CPUSchedulingPriority
CPUSchedulingResetOnFork CPUAffinity NUMAPolicy NUMAMask IOSchedulingClass IOSchedulingPriority
ProtectSystem ProtectHome RuntimeDirectoryMode StateDirectoryMode CacheDirectoryMode
LogsDirectory LogsDirectoryMode ConfigurationDirectory ConfigurationDirectoryMode
RuntimeDirectoryPreserve TimeoutCleanSec ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths
NoExecPaths ReadWriteDirectories ReadOnlyDirectories InaccessibleDirectories PrivateTmp
PrivateDevices PrivateIPC PrivateUsers ProtectHostname ProtectClock ProtectKernelTunables
ProtectKernelModules ProtectKernelLogs ProtectControlGroups RestrictAddressFamilies
RestrictFileSystems RestrictNamespaces LockPersonality MemoryDenyWriteExecute RestrictRealtime
RestrictSUIDSGID RemoveIPC PrivateMounts MountFlags MountAPIVFS ProtectProc ProcSubset
SystemCallFilter SystemCallErrorNumber SystemCallArchitectures SystemCallLog Environment
EnvironmentFile PassEnvironment UnsetEnvironment StandardOutput StandardError LogLevelMax
LogExtraFields LogRateLimitIntervalSec LogRateLimitBurst LogFilterPatterns LogNamespace
SyslogIdentifier SyslogFacility SyslogLevel SyslogLevelPrefix LoadCredential
LoadCredentialEncrypted ImportCredential SetCredential SetCredentialEncrypted
"""
#: systemd.resource-control(5).
_RESOURCES = """
CPUAccounting CPUWeight StartupCPUWeight CPUQuota CPUQuotaPeriodSec AllowedCPUs StartupAllowedCPUs
AllowedMemoryNodes StartupAllowedMemoryNodes MemoryAccounting MemoryMin MemoryLow MemoryHigh
MemoryMax MemorySwapMax MemoryZSwapMax StartupMemoryHigh StartupMemoryMax TasksAccounting TasksMax
DefaultMemoryMin DefaultMemoryLow
IOAccounting IOWeight StartupIOWeight IODeviceWeight IOReadBandwidthMax IOWriteBandwidthMax
IOReadIOPSMax IOWriteIOPSMax IODeviceLatencyTargetSec IPAccounting IPAddressAllow IPAddressDeny
SocketBindAllow SocketBindDeny RestrictNetworkInterfaces IPIngressFilterPath IPEgressFilterPath
BPFProgram DeviceAllow DevicePolicy Delegate DelegateSubgroup DisableControllers ManagedOOMSwap
ManagedOOMMemoryPressure ManagedOOMMemoryPressureLimit ManagedOOMPreference MemoryPressureWatch
MemoryPressureThresholdSec CPUShares StartupCPUShares MemoryLimit BlockIOAccounting BlockIOWeight
"""
KEPT = {
    "Unit": frozenset(
        _UNIT.split()
        + [f"{kind}{one}" for kind in ("Condition", "Assert") for one in _CONDITIONS.split()]
    ),
    "Service": frozenset((_SERVICE + _EXEC + _RESOURCES).split()),
    "Install": frozenset(
        ("WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also", "DefaultInstance")
    ),
}
#: Changed by unit_from.py.
CHANGED = {
    "Unit": frozenset(("Description",)),
    "Service": frozenset(
        (
            *("Type", "PIDFile", "Slice"),
            *("RuntimeDirectory", "StateDirectory", "CacheDirectory"),
        )
    ),
}
#: Cannot be in a unit with instances: directive -> why, and what to do.
REFUSED = {
    "Unit": {
        "SourcePath": "it is made of an init script, which has no command: set ExecStart and Type",
        "RefuseManualStart": "a restart starts instances by hand",
        "StopWhenUnneeded": "no unit needs an instance",
    },
    "Service": {
        "BusName": "one process at a time can have a name on the bus",
        "Sockets": "systemd would give both instances the same sockets: see docs/activate.md",
        "DynamicUser": "each instance could get another user, and sockets of two users share no "
        "address: set User=",
        "RemainAfterExit": "a restart would not see that an instance has ended",
        "RootDirectory": "paths are another root's",
        "RootImage": "paths are another root's",
        "MountImages": "two instances would mount one image",
        "ExtensionImages": "two instances would mount one image",
        "PrivateNetwork": "it has no address that clients reach",
        "NetworkNamespacePath": "udpgrm steers in the network namespace of its command",
        "StandardInput": "two instances cannot share an input",
        "TTYPath": "two instances cannot share a terminal",
        "UtmpIdentifier": "two instances cannot share a terminal",
    },
}

#: Values that switch a refused directive off.
OFF = frozenset(("", "0", "no", "n", "false", "f", "off", "null"))
