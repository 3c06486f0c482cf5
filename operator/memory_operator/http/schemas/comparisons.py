"""Comparisons of two spaces, and rehearsals of a model: what is to be looked for, and what each of the two found."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, model_validator

from memory_operator.contract.resource import ProviderRef
from memory_operator.engine.admin.rehearsals import MOST_CHUNKS, Named, RehearsalPlan, RehearsalRequest
from memory_operator.engine.memories.answer import milliseconds
from memory_operator.engine.memories.compare import MOST_DRAWN, MOST_QUESTIONS
from memory_operator.engine.memories.sides import Compared, ComparedAnswers, Found, KnownQuestion, Question, Side
from memory_operator.http.schemas.base import AnswerModel, Body, Money, Name, ProviderName
from memory_operator.store.spaces.spaces import State

Seed = Field(default=1, ge=0, le=2**31 - 1, description="Of what is drawn: the same seed draws the same.")


class QuestionBody(Body):
    """One question, and what is known to answer it."""

    query: str = Field(min_length=1, max_length=100_000, description="A question, or words.")
    judged: list[UUID] = Field(
        default_factory=list,
        max_length=5_000,
        description="Ids of memories that answer it; the answer says which of them the two do not have in common.",
        strict=False,
    )


class DrawBody(Body):
    """Questions to be made of the words of memories that both have."""

    count: int = Field(ge=1, le=MOST_DRAWN, description="How many.")
    seed: int = Seed


class CompareBody(Body):
    """Two spaces or rehearsals, and the questions that both are to answer. At least one of `draw` and `questions`."""

    first: Name = Field(description="Name of a space, or of a rehearsal.")
    second: Name = Field(description="The one that it is compared with.")
    project: Name | None = Field(
        default=None,
        description="Where to look; needed for questions. Left out, known items are drawn of all projects.",
    )
    k: int = Field(default=10, ge=1, le=200, description="How many memories at most.")
    draw: DrawBody | None = Field(default=None, description="Make questions of stored memories, and answer with them.")
    questions: list[QuestionBody] = Field(
        default_factory=list,
        max_length=MOST_QUESTIONS,
        description="Each is embedded for both. Where time runs out the first ones alone are answered.",
    )

    @model_validator(mode="after")
    def _has_a_project(self) -> CompareBody:
        if self.questions and self.project is None:
            raise ValueError("questions need a project")
        return self

    def wanted(self) -> list[Question]:
        """The questions for a comparison."""
        return [Question(one.query, one.judged) for one in self.questions]


class SideAnswer(AnswerModel):
    """One of the two."""

    name: str
    provider: str
    model: str | None
    dimensions: int | None = Field(description="Null of a rehearsal without a vector.")
    state: State | Literal["rehearsal"]
    input_cost_per_1k: Money | None = Field(description="As its Provider declares; null where it declares none.")

    @classmethod
    def of(cls, side: Side) -> SideAnswer:
        """One side."""
        return cls(
            name=side.name,
            provider=str(side.ref),
            model=side.config.model or None,
            dimensions=side.dimensions,
            state="rehearsal" if side.rehearsal else side.space.state,
            input_cost_per_1k=side.config.input_cost_per_1k,
        )


class InCommonAnswer(AnswerModel):
    """Chunks of the project, or of all projects of the tenant."""

    both: int = Field(description="With a vector in both: what is compared.")
    only_first: int
    only_second: int
    projects: int = Field(description="That these are of.")


class KnownQuestionAnswer(AnswerModel):
    """A question made of the words of a memory."""

    project: str
    query: str
    judged: list[UUID] = Field(description="The memory, and those with the same text.")


class FoundAnswer(AnswerModel):
    """What one of the two found for a question."""

    fused: list[UUID] = Field(description="Memories, best first, as a query's answer has them.")
    semantic: list[UUID] = Field(description="The same by vectors alone.")
    whole: list[UUID] | None = Field(
        description="The fused answer of a space out of all that it has; null where that is what was compared."
    )
    embed_ms: float | None = Field(description="Of a question that was embedded by itself, as those of queries are.")
    search_ms: float = Field(description="Of the search by vectors.")
    tokens: int = Field(description="Of the question, estimated.")
    index_recall: float | None = Field(
        description="Share of the ten nearest chunks that the index finds; null where there is none."
    )

    @classmethod
    def of(cls, found: Found) -> FoundAnswer:
        """What one side found."""
        return cls(
            fused=list(found.fused),
            semantic=list(found.semantic),
            whole=None if found.whole is None else list(found.whole),
            embed_ms=None if found.embed_seconds is None else milliseconds(found.embed_seconds),
            search_ms=milliseconds(found.search_seconds),
            tokens=found.tokens,
            index_recall=found.index_recall,
        )


class ComparedQuestionAnswer(AnswerModel):
    """What both found for a question."""

    first: FoundAnswer
    second: FoundAnswer
    missing: list[UUID] = Field(description="Judged memories that the two do not have in common.")


class ComparedAnswer(AnswerModel):
    """Two spaces side by side."""

    first: SideAnswer
    second: SideAnswer
    in_common: InCommonAnswer
    drawn: list[KnownQuestionAnswer] = Field(description="The questions that were to be drawn.")
    answers: list[ComparedQuestionAnswer] = Field(description="Of the first questions, as many as there was time for.")

    @classmethod
    def of(cls, compared: Compared, drawn: list[KnownQuestion], answers: list[ComparedAnswers]) -> ComparedAnswer:
        """The whole of an answer."""
        common = compared.common
        return cls(
            first=SideAnswer.of(compared.sides[0]),
            second=SideAnswer.of(compared.sides[1]),
            in_common=InCommonAnswer(
                both=common.both, only_first=common.only_one, only_second=common.only_other, projects=common.projects
            ),
            drawn=[KnownQuestionAnswer(project=one.project, query=one.text, judged=list(one.answers)) for one in drawn],
            answers=[
                ComparedQuestionAnswer(
                    first=FoundAnswer.of(one.found[0]),
                    second=FoundAnswer.of(one.found[1]),
                    missing=list(one.missing),
                )
                for one in answers
            ],
        )


class RehearseBody(Body):
    """A model of a Provider's vendor to be tried, and the memories to try it on."""

    provider: ProviderName = Field(description="namespace/name: its vendor, credential and limits are used.")
    model: Name = Field(description="The model.")
    dimensions: int | None = Field(default=None, ge=1, le=4_000, description="Of the vectors; left out, the model's.")
    query_prefix: str | None = Field(default=None, max_length=1_000, description="Left out, the Provider's.")
    document_prefix: str | None = Field(default=None, max_length=1_000, description="Left out, the Provider's.")
    project: Name | None = Field(default=None, description="Only its memories; left out, those of all projects.")
    sample: int = Field(default=2_000, ge=1, le=MOST_CHUNKS, description="How many chunks at most, of whole memories.")
    seed: int = Seed
    dry_run: bool = Field(default=False, description="Say what it would take, and write nothing.")

    def request(self) -> RehearsalRequest:
        """The same for the engine."""
        return RehearsalRequest(
            ProviderRef(*self.provider.split("/")),
            self.model,
            self.dimensions,
            query_prefix=self.query_prefix,
            document_prefix=self.document_prefix,
            project=self.project,
            size=self.sample,
            seed=self.seed,
        )


class RehearsalAnswer(AnswerModel):
    """A rehearsal: temporary, never active, filled only as far as its sample goes."""

    name: str
    id: int
    provider: str
    model: str | None
    dimensions: int | None = Field(description="Null before the first vector.")
    chunks: int
    embedded: int
    refused: int = Field(description="Chunks that the vendor refuses.")
    created_by: str
    created_at: datetime
    expires_at: datetime = Field(description="It is dropped then, unless somebody works with it until then.")

    @classmethod
    def of(cls, named: Named) -> RehearsalAnswer:
        """One rehearsal."""
        rehearsal = named.rehearsal
        return cls(
            name=rehearsal.name,
            id=rehearsal.id,
            provider=str(named.space.ref),
            model=rehearsal.config.model or None,
            dimensions=rehearsal.dimensions,
            chunks=rehearsal.chunks,
            embedded=rehearsal.embedded,
            refused=rehearsal.refused,
            created_by=rehearsal.created_by,
            created_at=rehearsal.created_at,
            expires_at=rehearsal.expires_at,
        )


class RehearsalsAnswer(AnswerModel):
    """The caller's rehearsals, oldest first."""

    rehearsals: list[RehearsalAnswer]


class RehearseAnswer(AnswerModel):
    """What a rehearsal takes, and the one that was begun."""

    dry_run: bool
    compared_with: str = Field(description="The active space.")
    chunks: int
    projects: int
    estimated_tokens: int
    estimated_cost: Money | None = Field(
        description="US dollars, exact, at the price that the Provider declares; null where it declares none."
    )
    currency: Literal["USD"] = "USD"
    estimated_seconds: int | None = Field(description="At the rate of the last job; null where there was none.")
    rehearsal: RehearsalAnswer | None = Field(description="Null in a dry run.")

    @classmethod
    def of(cls, plan: RehearsalPlan, begun: Named | None) -> RehearseAnswer:
        """A plan, and what was begun of it."""
        return cls(
            dry_run=begun is None,
            compared_with=plan.active,
            chunks=plan.size.chunks,
            projects=plan.size.projects,
            estimated_tokens=plan.size.tokens,
            estimated_cost=plan.cost,
            estimated_seconds=plan.seconds,
            rehearsal=None if begun is None else RehearsalAnswer.of(begun),
        )
