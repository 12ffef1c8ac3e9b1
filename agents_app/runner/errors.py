"""Why a run cannot go on. Each message is one sentence for people, without secrets."""


class RunnerError(Exception):
    """Base of all."""


class EngineMissing(RunnerError):
    """The machine has no engine of the wanted version."""


class DirectoryInUse(RunnerError):
    """Somebody else, perhaps an orphaned Terraform, holds the directory's lock."""


class StepFailed(RunnerError):
    """A step of the run failed; ``diagnostics`` are Terraform's own."""

    def __init__(
        self, sentence: str, diagnostics: list | None = None, exit_code: int | None = None
    ):
        super().__init__(sentence)
        self.diagnostics = diagnostics or []
        self.exit_code = exit_code


class TransferDamaged(RunnerError):
    """What came from the server is not what it sent; worth another try."""


class PermitDenied(RunnerError):
    """The server does not permit the apply; its sentence. Nothing may be applied."""


class RunCancelled(RunnerError):
    """It was asked to stop, and stopped before Terraform changed anything."""


class PlanCutOff(RunnerError):
    """Nobody knows how a plan ended; it is made again."""


class PlanUnusable(RunnerError):
    """The plan cannot be applied any more; a new one is needed."""


class PlanHashMismatch(PlanUnusable):
    """plan.out is not the plan that was reviewed."""


class ManifestMismatch(PlanUnusable):
    """A file that the apply reads is not as it was when the plan was made."""
