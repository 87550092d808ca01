"""A rubric of two dimensions, as docs/rubrics.md shows it."""

SEVERAL = """\
rubric:
  shows: [input, contexts, answer]
  dimensions:
    tone:
      criteria: Is the answer polite, and never sarcastic?
      scale: [0, 1]
      anchors: {0: It is rude or sarcastic., 1: It is polite.}
    completeness:
      criteria: Does the answer deal with everything that was asked?
      anchors:
        1: It deals with none of it.
        3: It leaves something out that the passages say.
        5: It deals with all of it.
  examples:
    - input: Where is order LH-1001, and can I still change the address?
      contexts: [Order LH-1001 left the warehouse on Monday. A parcel on its way cannot be redirected.]
      answer: It left our warehouse on Monday.
      grade: {tone: 1, completeness: 3}
      reason: {tone: It is plain and polite., completeness: It does not say that the address is fixed.}
"""
